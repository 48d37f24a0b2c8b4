"""Offline RL on small and heteroskedastic data (assembled by the architect)."""

__version__ = "0.1.0"
