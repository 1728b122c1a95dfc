"""From artifacts to numbers: the ledger, pairs, statistics, verdicts.

May import :mod:`aletheia.method`, :mod:`aletheia.study` and :mod:`aletheia.provenance`. Start with
:mod:`aletheia.analysis.ledger` (one row a run), then :mod:`aletheia.analysis.summary` and
:mod:`aletheia.analysis.verdicts`.
"""
