"""An adapter's own files, as PEFT wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aletheia.errors import UserError

CONFIG = "adapter_config.json"


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return an adapter's ``adapter_config.json``.

    Raises
    ------
    UserError
        When there is none, or it is no JSON.
    """
    path = Path(folder) / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: expected an adapter in PEFT's format, found no such file; name its folder") from None
    except ValueError as error:
        raise UserError(f"{path}: expected JSON, found something else ({error}); save the adapter again") from None
