"""The tiny study with less in it: every rule still runs, with the settings and to the payloads of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# With these arms every rule runs, those on demand too: the controls need random draws.
EVERY_RULE = {
    "moved": {"layers": "adapter_update", "benchmarks": ["heldout"]},
    "drawn": {"layers": "random", "draws": 2, "benchmarks": ["heldout"]},
}
# A model of the paper's, so that the replication report runs too.
PUBLISHED_NAME = "tinyllama-1.1b"


def keep_one_model(
    folder: Path,
    *,
    arms: Mapping[str, Any] | None = None,
    reports: Sequence[str] = (),
    called: str | None = None,
) -> None:
    """Leave the tiny study in a copy of the project its first model, which all benchmarks ask, and three arms.

    ``arms`` are settings of these arms, or of further ones; ``reports`` stand in the place of all three, and ``called``
    is another name for that model.
    """
    path = folder / "tests/study/campaign.yaml"
    campaign = yaml.safe_load(path.read_text(encoding="utf-8"))
    del campaign["overrides"]
    campaign["models"] = campaign["models"][:1]
    for name, settings in (arms or {}).items():
        campaign["arms"][name] = campaign["arms"].get(name, {}) | settings
    campaign["reports"] = list(reports) or campaign["reports"]
    # Two draws have a spread; each is a job.
    campaign["stability"]["draws"] = 2
    if called:
        registry = folder / "tests/study/models.yaml"
        models = yaml.safe_load(registry.read_text(encoding="utf-8"))
        registry.write_text(yaml.safe_dump({called: models[campaign["models"][0]]}), encoding="utf-8")
        campaign["models"] = [called]
    # In their order, since that of the arms is the ledger's.
    path.write_text(yaml.safe_dump(campaign, sort_keys=False), encoding="utf-8")
