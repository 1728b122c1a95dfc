"""The tiny study with less in it: every rule still runs, with the settings and to the payloads of the whole."""

from __future__ import annotations

from pathlib import Path

import yaml


def keep_one_model(folder: Path) -> None:
    """Leave the tiny study in a copy of the project its first model, which all benchmarks ask, and three arms."""
    path = folder / "tests/study/campaign.yaml"
    campaign = yaml.safe_load(path.read_text(encoding="utf-8"))
    del campaign["overrides"]
    campaign["models"] = campaign["models"][:1]
    # In their order, since that of the arms is the ledger's.
    path.write_text(yaml.safe_dump(campaign, sort_keys=False), encoding="utf-8")
