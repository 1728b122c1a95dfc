"""From numbers to what is read: tables, written analyses, figures.

May import :mod:`aletheia.analysis` and :mod:`aletheia.timing`. Start with :mod:`aletheia.report.tables` or
:mod:`aletheia.report.figures`.
"""
