"""One training run: rows to tokens to batches, the loop that is timed, checkpoints, what the run says of itself.

May import :mod:`aletheia.method` and :mod:`aletheia.provenance`. Start with :mod:`aletheia.training.run` (a run from
staged inputs to its artifact), then :mod:`aletheia.training.loop` (an optimiser step).
"""
