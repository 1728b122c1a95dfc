"""What the process that runs Snakemake needs beside the study: messages, notes, targets, checks before the first job.

May import :mod:`aletheia.staging`, :mod:`aletheia.cluster`, :mod:`aletheia.study` and :mod:`aletheia.provenance`; no
step imports it. Start with :mod:`aletheia.controller.messages`.
"""
