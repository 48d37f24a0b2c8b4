"""How the suite's own data is made: one module per family.

A recipe module has ``VERSION`` and ``build(parameters, seed, *, environment, progress)``, which
returns :class:`hetero_bench.arrays.EpisodeArrays`. ``VERSION`` counts up when the same parameters
and seed would give other data.
"""
