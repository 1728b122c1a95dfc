"""The recipe search as decisions over plain data: which trials there are, which are promoted, what is confirmed.

No files, no training, no settings of a study beyond those that are handed in. May import :mod:`aletheia.inference` and
:mod:`aletheia.errors`; :mod:`aletheia.study` may read :mod:`aletheia.search.trials`, whose trials are arms. Start with
:mod:`aletheia.search.space` (recipes, and what a section ``search`` comes to), then :mod:`aletheia.search.promotion`
(from rung to rung) and :mod:`aletheia.search.decision` (the winner, or none).
"""
