"""Compares the baselines with the same methods of an independent library, d3rlpy."""
