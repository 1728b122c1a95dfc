"""Which files of a model's folder or repository are taken."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aletheia.errors import UserError

SHARD = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
# Tokenizer and configuration in every form that loads without running the repository's code.
TEXT_FILE = re.compile(r".+\.json|tokenizer.*\.model|spiece\.model|merges\.txt|vocab\.txt|.+\.jinja")
# An adapter beside a model would be laid over it.
UNWANTED = re.compile(r".*\.index\.json|training_args\.json|.*consolidated.*|params\.json|adapter_config\.json")


def model_files(names: Sequence[str], what: str) -> list[str]:
    """Return the files of a model repository to take: safetensors, tokenizer, configuration, no folders.

    Raises
    ------
    UserError
        When there are no safetensors weights: pickles run code on loading and are never taken.
    """
    weights = [name for name in names if SHARD.fullmatch(name)]
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    if not any(name.endswith(".safetensors") for name in weights):
        pickles = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        has = f"only pickled weights ({pickles[0]}), which may run code when loaded" if pickles else "no weights"
        raise UserError(
            f"{what} has {has}; expected model.safetensors or its shards, so choose a revision that has them "
            "(on the hub often refs/pr/N) or convert the weights to safetensors first"
        )
    texts = [n for n in names if TEXT_FILE.fullmatch(n) and not UNWANTED.fullmatch(n) and "/" not in n]
    return sorted({*weights, *texts})
