"""How the suite's own data is made: one module per family.

A recipe module has ``VERSION`` and ``build(parameters, seed, *, environment, progress)``, which
returns :class:`hetero_bench.arrays.EpisodeArrays`. ``VERSION`` counts up when the same parameters
and seed would give other data. Three things are optional: ``SIMULATED = False`` says that every
machine gives the same bits, so that other ones are refused instead of called ``rebuilt``;
``check(parameters, environment)`` refuses a bad manifest when it is read; and where ``build`` takes
``keep``, finished parts lie in that folder until the end, so that an interrupted build goes on.
"""
