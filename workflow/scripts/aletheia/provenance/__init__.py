"""What made a file, and writing it whole: artifacts with hashes, lineage, locks, the machine that ran.

Imports nothing of ours but :mod:`aletheia.errors`. Start with :mod:`aletheia.provenance.artifacts` (what a file that a
step leaves looks like), then :mod:`aletheia.provenance.job` (how a script writes one) and
:mod:`aletheia.provenance.lineage` (which code made it).
"""
