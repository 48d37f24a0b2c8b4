"""Reference implementations of offline RL methods, trained as populations.

``python -m baselines train --method cql --dataset gridworld-hetero`` trains, evaluates and writes
results that ``hetero_bench.grade`` reads; ``baselines.engine.train`` is the same from Python. A
method is one file in this folder, found by its module-level ``METHOD``; what methods share is in
``baselines.parts``.
"""
