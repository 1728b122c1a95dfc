"""Check a study against its own records: verify, what would rerun and why, lineage, the evidence archive.

May import :mod:`aletheia.study` and :mod:`aletheia.provenance`. Start with :mod:`aletheia.audit.verification` (is every
file what was recorded?), then :mod:`aletheia.audit.audit` (what would be made again?).
"""
