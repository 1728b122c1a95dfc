"""Check targets that are named on the command line against what the study makes."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from aletheia.errors import UserError
from aletheia.study.outputs import ON_DEMAND, study_files
from aletheia.study.report_contents import REPORTS, analyses_of, figures_of, tables_of
from aletheia.study.study import Study


def check_target(target: str, study: Study, *, results: str, resources: str, rules: Collection[str]) -> None:
    """Refuse a target that the study does not make.

    Parameters
    ----------
    target
        As given to snakemake: a rule or a file.
    study
        The study as its configuration says.
    results, resources
        Its two trees.
    rules
        Names of the rules that can be targets.

    Raises
    ------
    UserError
        With the nearest target that there is, and for a table, figure or analysis the report that it belongs to.
    """
    known = [*rules, *study_files(study, results, resources)]
    known += [path for files_of in ON_DEMAND.values() for path in files_of(study, results)]
    if target not in known:
        raise UserError(_unknown_target(target, study, known))


def _unknown_target(target: str, study: Study, known: Collection[str]) -> str:
    report = _report_of(target)
    if report and report not in study.reports():
        why = f"found one that belongs to the report {report}, which no campaign makes; add it to a campaign's reports"
    else:
        near = difflib.get_close_matches(target, known, n=1, cutoff=0.6)
        why = "found one that the study does not make" + (f"; did you mean {near[0]}?" if near else "")
    return f"{target}: expected a rule (all, stage, stability …) or a file of the study as a target, {why}"


def _report_of(target: str) -> str | None:
    """Return the report that a table, figure or analysis belongs to; None where it is of none."""
    stem = Path(target).name.split(".")[0]
    for report in REPORTS:
        names = {*figures_of([report]), *(f"table{number}" for number in tables_of([report]))}
        names |= {Path(name).stem for name in analyses_of([report]).values()}
        if stem in names and stem != "table1":
            return report
    return None
