"""Which campaigns a results tree holds, so that another study does not overwrite them unasked."""

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
    """Return the reason why a study must not write into a results tree; None where it may.

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
    stored, planned = stored_campaigns(results), _study_campaigns(study)
    files = {campaign.file for campaign in planned.values()}
    others = {
        name: campaign
        for name, campaign in stored.items()
        if campaign.file not in files and not (name in planned and campaign.runs & planned[name].runs)
    }
    if not others:
        return None
    found = ", ".join(f"{name} ({other.file})" if other.file else name for name, other in others.items())
    twins = [name for name in others if name in planned]
    rename = f"; campaign {twins[0]} needs another name, for that one is taken" if twins else ""
    own = f"{results}-{next(iter(planned))}"
    return (
        f"{results}: expected the results of campaign{'s' if len(planned) > 1 else ''} {', '.join(planned)}, or none, "
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
    """Record a study's campaigns in its results tree; call it only where :func:`other_campaigns` returns None."""
    path, planned = Path(results) / RECORD_NAME, _study_campaigns(study)
    if path.exists() and stored_campaigns(results) == planned:
        return
    payload = {name: {"file": each.file, "runs": sorted(each.runs)} for name, each in planned.items()}
    made_by = {
        "step": "controller",
        **{"inputs": {}, "code": {}, "config": {}, "environment": lineage.environment(), "seed": None},
        **lineage.commit(),
        "output": os.path.normpath(path),
    }
    whole = artifacts.make_envelope("campaigns", {"campaigns": payload}, made_by, {"ended": machine.now()}, path)
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
    """Return the runs of each campaign of a ledger; none where it is missing or damaged, which verify reports."""
    return {campaign["name"]: _runs(campaign) for campaign in ledger_campaigns(results)}


def ledger_campaigns(results: Path | str) -> Sequence[Mapping[str, Any]]:
    """Return the campaigns that a tree's ledger was made of, as its lineage has them; none where it cannot be read."""
    sidecar = artifacts.sidecar(Path(results) / "aggregate" / "ledger.csv")
    try:
        return artifacts.read(sidecar, "file")["lineage"]["config"].get("campaigns", [])
    except UserError:
        return []
