"""Arms in turns in one process: the tightest ratios of speed, and where a step's time goes.

May import :mod:`aletheia.training` and what stands below it. Start with :mod:`aletheia.timing.interleaving` (how arms
take turns), then :mod:`aletheia.timing.measure` (the two measurements) and :mod:`aletheia.timing.step_cost`.
"""
