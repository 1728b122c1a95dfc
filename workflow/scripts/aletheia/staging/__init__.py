"""From outside to ``resources/``: models and data from hub, package index, files or random weights, checked and locked.

May import :mod:`aletheia.method`, :mod:`aletheia.study` and :mod:`aletheia.provenance`. Start with
:mod:`aletheia.staging.stage` (one folder and its lock), then :mod:`aletheia.staging.build` (what fills it) and
:mod:`aletheia.staging.weights_check` (what is refused).
"""
