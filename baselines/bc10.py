"""10%-BC: behavioural cloning of the best tenth of the data.

Chen et al., "Decision Transformer: Reinforcement Learning via Sequence Modeling", NeurIPS 2021,
Section 5.1 (%BC). The trajectories of the highest returns that together have a tenth of the
transitions; everything else is :mod:`baselines.bc`.
"""

from __future__ import annotations

from baselines import bc
from baselines.engine.method import Method

METHOD = Method(
    name="bc10",
    title="10%-BC",
    paper="Chen et al., NeurIPS 2021",
    config=bc.Config,
    agent=bc.Agent,
    actions="continuous",
    prepare=bc.prepare,
    overrides={"*": {"best_fraction": 0.1}},
)
