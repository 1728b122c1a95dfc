"""Which campaigns a results tree holds, so that another study never takes their place unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts, lineage, machine
from aletheia.provenance.atomic_write import atomic_path
from aletheia.study.planned_runs import planned_runs
from aletheia.study.study import Study

RECORD_NAME = "campaigns.json"


@dataclass(frozen=True)
class StoredCampaign:
    """One campaign of a results tree.

    Attributes
    ----------
    file
        The campaign file, as the configuration named it; None where it is not known.
    runs
        ``MODEL/ARM/seedN`` of each of its runs.
    """

    file: str | None
    runs: frozenset[str]


def other_campaigns(results: Path | str, study: Study) -> str | None:
    """Return why a study may not write into a results tree; None where it may.

    A campaign is the same where its file is the same, or its name and some run: a setting, a model or a data set that
    was changed makes no other study. A study may add campaigns to a tree, but not leave one out, since
    the ledger, the tables and the figures would then lose it.

    Parameters
    ----------
    results
        The results tree.
    study
        What would be run.

    Raises
    ------
    UserError
        When the tree's record is damaged.
    """
    held, asked = stored_campaigns(results), _study_campaigns(study)
    files = {one.file for one in asked.values()}
    others = {
        name: one
        for name, one in held.items()
        if one.file not in files and not (name in asked and one.runs & asked[name].runs)
    }
    if not others:
        return None
    found = ", ".join(f"{name} ({one.file})" if one.file else name for name, one in others.items())
    twins = [name for name in others if name in asked]
    rename = f"; campaign {twins[0]} needs another name, for that one is taken" if twins else ""
    own = f"{results}-{next(iter(asked))}"
    return (
        f"{results}: expected the results of campaign{'s' if len(asked) > 1 else ''} {', '.join(asked)}, or none, "
        f"found those of {found}, whose ledger, tables and figures would be replaced{rename}; give this study a tree "
        f"of its own (pathvars: {{results: {own}}} in its configuration), or delete {Path(results) / RECORD_NAME} if "
        "it shall take this one over"
    )


def stored_campaigns(results: Path | str) -> dict[str, StoredCampaign]:
    """Return the campaigns that a results tree holds, by name; of one without a record, those of its ledger."""
    path = Path(results) / RECORD_NAME
    if not path.exists():
        return {name: StoredCampaign(None, runs) for name, runs in _of_ledger(results).items()}
    campaigns = artifacts.payload(path, "campaigns")["campaigns"]
    return {name: StoredCampaign(entry["file"], frozenset(entry["runs"])) for name, entry in campaigns.items()}


def record_campaigns(results: Path | str, study: Study) -> None:
    """Write down which campaigns a results tree holds; call it once :func:`other_campaigns` had nothing to say."""
    path, asked = Path(results) / RECORD_NAME, _study_campaigns(study)
    if path.exists() and stored_campaigns(results) == asked:
        return
    payload = {name: {"file": one.file, "runs": sorted(one.runs)} for name, one in asked.items()}
    made = {
        "step": "controller",
        **{"inputs": {}, "code": {}, "config": {}, "environment": lineage.environment(), "seed": None},
        **lineage.commit(),
        "output": os.path.normpath(path),
    }
    whole = artifacts.make_envelope("campaigns", {"campaigns": payload}, made, {"ended": machine.now()}, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(artifacts.canonical_bytes(whole))


def _study_campaigns(study: Study) -> dict[str, StoredCampaign]:
    indexed = zip(study.campaigns, study.campaign_index(), strict=True)
    return {
        index["name"]: StoredCampaign(os.path.normpath(campaign["path"]), _runs(index)) for campaign, index in indexed
    }


def _runs(index: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(f"{run['model']}/{run['arm']}/seed{run['seed']}" for run in planned_runs(index))


def _of_ledger(results: Path | str) -> dict[str, frozenset[str]]:
    """Return the runs of each campaign of a ledger; nothing where it is missing or damaged, as verify says."""
    return {campaign["name"]: _runs(campaign) for campaign in ledger_campaigns(results)}


def ledger_campaigns(results: Path | str) -> Sequence[Mapping[str, Any]]:
    """Return the campaigns that a tree's ledger was made of, as its lineage has them; none where it cannot be read."""
    sidecar = artifacts.sidecar(Path(results) / "aggregate" / "ledger.csv")
    try:
        return artifacts.read(sidecar, "file")["lineage"]["config"].get("campaigns", [])
    except UserError:
        return []
