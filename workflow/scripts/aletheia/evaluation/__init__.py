"""What a run scores: losses and lm-evaluation-harness's benchmarks on staged questions.

May import :mod:`aletheia.training`, :mod:`aletheia.sandbox`, :mod:`aletheia.staging` and what stands below these. Start
with :mod:`aletheia.evaluation.evaluated_run` (one model, all its benchmarks), then
:mod:`aletheia.evaluation.evaluate` (one benchmark) and :mod:`aletheia.evaluation.harness`.
"""
