"""What somebody brings to `aletheia fit` or to the examples: a folder with a tiny model, rows and passages."""

import shutil
from pathlib import Path

from aletheia.staging.convert import random_model

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
STUDY = Path(__file__).resolve().parents[1] / "study"


def bring_own_data(folder: Path) -> Path:
    """Put ``model``, ``rows.jsonl`` and ``passages.jsonl`` into a folder; return it."""
    random_model({"config": {"model_type": "llama", **SHAPE, "num_key_value_heads": 2}}, folder / "model")
    for name in ("rows.jsonl", "passages.jsonl"):
        shutil.copy(STUDY / name, folder)
    return folder
