"""``python -m baselines``; see :mod:`baselines.cli`."""

import os
import sys

# Threads that wait for each other between matrix products sleep; by default they spin, and beside
# any other program a population then trains several times slower. OpenMP reads this with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from baselines.cli import main

if __name__ == "__main__":
    sys.exit(main())
