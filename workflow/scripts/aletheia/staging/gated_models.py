"""Gated models, which the hub gives to accounts that have accepted terms: checked before the first download begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError

# Any of them gives the hub's client a token.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")


def require_token(models: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Refuse to stage gated models without a token, all of them in one sentence.

    Parameters
    ----------
    models
        Entries in the registry of the models that are about to be staged.
    folder
        ``resources/models``; a model that is there needs no token.

    Raises
    ------
    UserError
        With the pages whose terms are to be accepted.
    """
    gated = {
        name: entry["source"]["id"]
        for name, entry in models.items()
        if entry.get("gated") and entry["source"]["type"] == "hub" and not (folder / name).is_dir()
    }
    if gated and not has_token():
        site = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        pages = " and ".join(f"{site}/{identifier}" for identifier in gated.values())
        raise UserError(
            f"{' and '.join(gated)}: expected a token of the hub, for these are gated, and found none; accept the "
            f"terms on {pages} with your account, and set HF_TOKEN to a token of it (in the shell that runs "
            f"snakemake), or stage only others by name ({folder}/NAME.lock.json); where a mirror asks for no token, "
            "write gated: false in the registry"
        )


def has_token() -> bool:
    """Tell whether the hub's client would find a token; looks where the client looks, which may not be installed.

    Only the hub can tell whether the token is valid.
    """
    if any(os.environ.get(name, "").strip() for name in TOKEN_VARIABLES):
        return True
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH") or f"{home}/token")).expanduser()
    try:
        return bool(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return False
