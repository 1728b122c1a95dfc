"""Gradient-guided layer selection for LoRA: probe, select, place, train, evaluate, audit.

The names below load on first use, so that steps without torch start without it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "probe_layers": "method.probe",
    "select_layers": "method.selection",
    "lora_config": "method.adapters",
    "selectors": "study.selectors",
}

__all__ = ["__version__", "lora_config", "probe_layers", "select_layers", "selectors"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"aletheia.{_HOME[name]}"), name)
    raise AttributeError(f"module 'aletheia' has no attribute {name!r}")
