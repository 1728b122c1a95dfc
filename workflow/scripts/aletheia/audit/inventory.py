"""The files that a study should consist of, compared with what is there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aletheia.audit.file_cache import FileCache
from aletheia.audit.verification import Finding, Verified, verify_folders
from aletheia.provenance import artifacts
from aletheia.study import results_tree
from aletheia.study.configuration_files import CONFIG, read_configuration
from aletheia.study.load import load_study
from aletheia.study.outputs import ON_DEMAND, study_files
from aletheia.study.schema import trees
from aletheia.study.study import Study

# So many missing files of one rule are named one by one.
MAX_NAMED_FILES = 3


@dataclass(frozen=True)
class Inventory:
    """A study with its two trees, and what it leaves there.

    Attributes
    ----------
    study, results, resources
        The study, and its trees.
    files
        ``{path: rule}`` of all that should be there.
    demanded
        ``{path: target}`` of those that are made on demand.
    """

    study: Study
    results: str
    resources: str
    files: Mapping[str, str]
    demanded: Mapping[str, str]


def results_folder(configfiles: Iterable[Path] = ()) -> str:
    """Return the study's results folder, by the configuration of this folder where there is one."""
    configfiles = list(configfiles)
    return trees(read_configuration(configfiles) if CONFIG.is_file() or configfiles else {})[0]


def load_inventory(configfiles: Iterable[Path] = ()) -> Inventory:
    """Return the files that the study of a configuration should consist of.

    Parameters
    ----------
    configfiles
        What ``--configfile`` names; mappings merge, lists replace.

    Raises
    ------
    UserError
        For a mistake in the configuration.
    """
    config = read_configuration(configfiles)
    study, (results, resources) = load_study(config), trees(config)
    files, demanded = study_files(study, results, resources), dict[str, str]()
    record = os.path.join(results, results_tree.RECORD_NAME)
    # No rule makes it, and nothing follows from it: it need not be there.
    files |= {record: ""} if os.path.exists(record) else {}
    for target, on_demand in ON_DEMAND.items():
        of_target = on_demand(study, results)
        # Once one of its files is there, all are expected.
        if any(map(os.path.exists, of_target)):
            files |= of_target
            demanded |= dict.fromkeys(of_target, target)
    return Inventory(study, results, resources, files, demanded)


def verify_study(inventory: Inventory, contents: FileCache | None = None) -> Verified:
    """Check every artifact of a study, and that the study's files, and no others, are there.

    Parameters
    ----------
    inventory
        What should be there.
    contents
        Carries over what was read before, between calls.

    Returns
    -------
    Verified
        A whole artifact that no run of the study asks for is a note and no finding: it is another campaign's result.
    """
    roots = [Path(inventory.results), Path(inventory.resources)]
    verified = verify_folders(roots, inventory.files, contents)
    other = _other_configuration(inventory, verified)
    if other is None:
        return verified
    # Another configuration decides what belongs into such a tree: only what some artifact names is known to be missing.
    known = [f for f in verified.findings if f.kind != "missing" or f.expected]
    return replace(verified, findings=sorted([other, *known]), notes=[])


def _other_configuration(inventory: Inventory, verified: Verified) -> Finding | None:
    """Return the finding that the trees were plainly made by another configuration, or None."""
    sidecar = artifacts.sidecar(Path(inventory.results) / "aggregate" / "ledger.csv")
    asked = {campaign["name"] for campaign in inventory.study.campaigns}
    made = {campaign["name"] for campaign in results_tree.ledger_campaigns(inventory.results)}
    nothing_of_it = bool(verified.notes) and not any(map(os.path.exists, inventory.files))
    plainly = not made & asked if made else nothing_of_it
    if not plainly:
        return None
    return Finding(
        str(sidecar.parent if not made else sidecar),
        "made by another configuration, so what is missing is not known; pass that study's --configfile",
        f"campaigns {', '.join(sorted(asked))}",
        f"campaigns {', '.join(sorted(made))}" if made else "none of the study's files",
        kind="configuration",
    )


def condense(findings: Collection[Finding]) -> list[str]:
    """Return findings as lines; where many of a kind (missing files of one rule) there are, the first and a count."""
    lines, many = [], dict[tuple[str, str], list[Finding]]()
    for finding in findings:
        if finding.kind in ("missing", "unasked") and not finding.expected:
            many.setdefault((finding.kind, finding.rule), []).append(finding)
        else:
            lines.append(str(finding))
    for (_, rule), group in many.items():
        if len(group) <= MAX_NAMED_FILES:
            lines += [f"{finding}{f'; rule {rule} makes it' if rule else ''}" for finding in group]
        else:
            made_by = f"; rule {rule} makes them" if rule else ""
            lines.append(f"{group[0].path} and {len(group) - 1} more: {group[0].problem}{made_by}")
    return lines
