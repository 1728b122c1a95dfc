"""Sections ``search`` as tests change them, and the spaces that they declare."""

from __future__ import annotations

from typing import Any

from aletheia.errors import UserError
from aletheia.search.section import read_space
from aletheia.search.space import Space

EIGHT = ("last_half", "last_third", "last_quarter", "v_o_down", "attention", "mlp", "gradient_half", "gradient_third")
SETTINGS = {
    "adapter": {"rank": 16, "alpha": 32, "modules": "all"},
    "training": {"learning_rate": 5e-4, "accumulation": 2, "schedule": "cosine", "batch_size": 2},
}
LEGAL = {"layers", "budget_percent", "modules", "rank", "alpha", "accumulation", "schedule", "batch_size"}


def section(**changes: Any) -> dict[str, Any]:
    """Return a section ``search`` of eight presets, with what a test changes."""
    plain = {
        "objective": "loss_at_equal_time",
        "retention_bound": None,
        "margin": 0.005,
        "budget": {"runs": 80},
        "rates": [5e-4, 1e-3, 2e-3, 4e-3],
        "steps": {"scan": 24, "full": 64},
        "seeds": {"floor": [1, 2, 3], "search": 42, "confirm": [101, 102, 103, 104, 105, 106]},
        "keep": 3,
        "std": {"extras": {}},
        "presets": list(EIGHT),
        "recipes": {},
        "moves": ["rate x2", "rate /2", "rank x2", "rank /2", "more layers", "fewer layers"],
    }
    return {**plain, **changes}


def say(*keys_and_sentence: str) -> UserError:
    """Return an error as a campaign's reader would make it."""
    *keys, sentence = keys_and_sentence
    return UserError(f"search.{'.'.join(keys)}: {sentence}")


def space(**changes: Any) -> Space:
    """Return the space of :func:`section`."""
    return read_space(section(**changes), settings=SETTINGS, legal_keys=LEGAL, say=say)
