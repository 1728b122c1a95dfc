"""Rows as `aletheia fit` finds them, without a file, and what may be asked."""

from aletheia.fit.options import Options
from aletheia.fit.survey import Survey


def surveyed(count=300, *, lengths=tuple(range(20, 120)), prompt="alpaca", passages=32):
    """Return so many rows, each unlike the others, with these lengths in tokens."""
    rows = [{"instruction": f"ask {i}", "input": "", "output": f"answer {i}"} for i in range(count)]
    return Survey(rows, prompt, lengths, 2048, passages)


def options(**given):
    """Return options about a model on the hub."""
    return Options(**{"model": "owner/name", "data": "/data/rows.jsonl", **given})
