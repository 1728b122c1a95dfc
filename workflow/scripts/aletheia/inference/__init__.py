"""What follows from paired differences for models, runs and questions to come: pure statistics over arrays.

Knows nothing of ledgers, campaigns or settings, and imports none of our packages; numpy, scipy and statsmodels alone.
Start with :mod:`aletheia.inference.random_effects` (models as a sample), then :mod:`aletheia.inference.questions`
(questions as a sample) and :mod:`aletheia.inference.equivalence` (from an interval to a verdict).
"""
