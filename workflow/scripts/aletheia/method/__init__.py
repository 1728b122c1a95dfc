"""The paper's method, and the library's interface: probe layers, select some, place adapters on them.

May import :mod:`aletheia.study` and :mod:`aletheia.provenance`. Start with :mod:`aletheia.method.probe` (the paper's
section 3.2), then :mod:`aletheia.method.layer_scores`, :mod:`aletheia.method.selection` (3.3) and
:mod:`aletheia.method.adapters` (3.4).
"""
