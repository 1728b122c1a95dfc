"""Artifacts with hashes, the lineage of what made them, atomic writes and locks, the machine that ran.

Imports nothing of ours but :mod:`aletheia.errors`. Start with :mod:`aletheia.provenance.artifacts` (the form of the
files that steps write), then :mod:`aletheia.provenance.job` (how a script writes one) and
:mod:`aletheia.provenance.lineage` (which code made it).
"""
