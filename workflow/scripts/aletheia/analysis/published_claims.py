"""The claims of the paper's text, as data: ``config/published/claims.csv``, a closed schema.

What each column may hold stands in ``docs/paper.md``. :mod:`aletheia.analysis.judged_claims` holds claims against
numbers: the paper's own (:mod:`aletheia.analysis.published_numbers`), or those of a study.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from aletheia.errors import UserError
from aletheia.study.published import model_key

ALL = "all"  # in a claim: every model that has the quantity
STUDY = "study"  # as a model of numbers: what a study has once, as its count of runs

# What a claim speaks of. Each is one number a model, in the unit that follows; those of STUDY are one number a study.
QUANTITIES = {
    "speedup_percent": ("percent", "100 · (1 − ale / std), seconds of training"),
    "mmlu_extra_points": ("points", "MMLU: ale − std (in the paper: campaign 1, table 3)"),
    "campaign2_mmlu_extra_points": ("points", "the same in campaign 2 (table 4), which has two of the models too"),
    "gsm8k_extra_points": ("points", "GSM8K: ale − std"),
    "humaneval_extra_points": ("points", "HumanEval: ale − std"),
    "mmlu_delta_std_points": ("points", "MMLU: std − base model"),
    "mmlu_delta_ale_points": ("points", "MMLU: ale − base model"),
    "compute_matched_loss_difference": ("nats", "held-out loss: compute-matched − std"),
    "compute_matched_time_percent": ("percent", "100 · compute-matched / std, seconds of training"),
    "parameters_reduction_percent": ("percent", "100 · (1 − ale / std), trainable parameters"),
    "layers_adapted": ("layers", "layers with adapters in ale"),
    "probe_passes": ("passes", "forward and backward passes of the probe"),
    "probe_percent": ("percent", "100 · probe / training, seconds"),
    "gradient_share_percent": ("percent", "share of the gradient norms that the layers of ale hold"),
    "runs_failed": ("runs", "runs of all arms that failed"),
    "rows_finished": ("rows", "rows that did not fail: pairs of campaign 1 (std and ale), runs of campaign 2"),
    "models": ("models", "models with a finished run"),
    "families": ("families", "families of those models"),
    "autoresearch_loss_difference": ("nats", "held-out loss: the best recipe of section 3.5 − the next"),
    "autoresearch_loss_over_std": ("nats", "held-out loss: the best recipe of section 3.5 − std of table 5"),
    "autoresearch_speedup_ratio": ("ratio", "seconds of training: full LoRA / the recipe of section 3.5"),
}
RELATIONS = {  # and how many thresholds each takes
    "at_least": 1,
    "at_most": 1,
    "greater_than": 1,
    "less_than": 1,
    "between": 2,
    "equals": 1,
    "significant": 1,
    "states_no_bound": 0,
}
RULES = (
    "every_model",
    "every_run",
    "most_models",
    "mean_over_models",
    "mean_minus_others",
    "interval_over_models",
    "interval_over_runs",
    "study",
)
TESTED_RULES = ("every_model", "mean_over_models")  # of "significant": a mean above 0, by a t-test
_SECTION = re.compile(r"abstract|[1-7](\.[1-6])?|A(\.1)?")


class Number(NamedTuple):
    """What is known of one quantity of one model.

    Attributes
    ----------
    mean
        Over the runs.
    sd
        Of the runs; None where it is not known.
    n
        How many runs; 1 for what is counted once.
    """

    mean: float
    sd: float | None = None
    n: int = 1


Numbers = Mapping[tuple[str, str], Number]  # by (model's key or STUDY, quantity)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes
    ----------
    id
        Its name here.
    section
        Where it stands: abstract, 1 to 7, A.1.
    quote
        Words of the paper, verbatim.
    models
        Keys of the models that it speaks of; ``("all",)`` for every model that has the quantity.
    quantity
        What it speaks of: a key of :data:`QUANTITIES`.
    relation
        A key of :data:`RELATIONS`.
    threshold
        None, one or two numbers, as the paper writes them: their last digit says how far ``equals`` reaches.
    unit
        Of the threshold: the quantity's, ``p`` for a level of significance.
    rule
        One of :data:`RULES`: which number, or interval, is held against the threshold.
    """

    id: str
    section: str
    quote: str
    models: tuple[str, ...]
    quantity: str
    relation: str
    threshold: tuple[str, ...]
    unit: str
    rule: str


COLUMNS = tuple(field.name for field in fields(Claim))


def load_claims(path: Path) -> list[Claim]:
    """Return the claims of a table, in its order.

    Raises
    ------
    UserError
        When the table is missing, or a row is not of the schema.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected the paper's claims here, found none; restore it from git")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            found = ", ".join(reader.fieldnames or ()) or "none"
            raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}, found {found}; restore them")
        claims = [_claim(row, f"{path}, line {reader.line_num}") for row in reader]
    names = [claim.id for claim in claims]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{path}: expected each id once, found {twice} twice; rename one")
    return claims


def _claim(row: Mapping[str, str | None], where: str) -> Claim:
    """Return the claim of a row; refuse one that is not of the schema."""
    if set(row) != set(COLUMNS) or None in row.values():
        raise UserError(f"{where}: expected {len(COLUMNS)} cells, found another number; quote cells with a comma")
    cells = {name: str(row[name]).strip() for name in COLUMNS}
    for name in ("id", "section", "quote", "models"):
        if not cells[name]:
            raise UserError(f"{where}: expected words under {name}, found an empty cell; fill it")
    if not _SECTION.fullmatch(cells["section"]):
        raise UserError(f"{where}: expected a section (abstract, 1 to 7, A.1), found {cells['section']!r}; name one")
    for name, known in (("quantity", QUANTITIES), ("relation", RELATIONS), ("rule", RULES)):
        if cells[name] not in known:
            raise UserError(f"{where}: expected a {name} among {', '.join(known)}, found {cells[name]!r}; use one")
    threshold = tuple(part.strip() for part in cells["threshold"].split(";") if part.strip())
    _check_threshold(cells, threshold, where)
    models = tuple(model_key(name.strip()) for name in cells["models"].split(";"))
    return Claim(**{**cells, "models": models, "threshold": threshold})


def _check_threshold(cells: Mapping[str, str], threshold: tuple[str, ...], where: str) -> None:
    """Refuse thresholds that are no numbers, or too many or few; a wrong unit; a rule that is not the relation's."""
    relation, unit = cells["relation"], "p" if cells["relation"] == "significant" else QUANTITIES[cells["quantity"]][0]
    if len(threshold) != RELATIONS[relation] or not all(map(_is_number, threshold)):
        wanted = f"{RELATIONS[relation]} numbers, separated by ';'"
        raise UserError(f"{where}: {relation} expected {wanted}, as threshold, found {cells['threshold']!r}; mend it")
    if relation == "between" and float(threshold[0]) > float(threshold[1]):
        raise UserError(f"{where}: between expected the lower number first, found {cells['threshold']!r}; turn them")
    if cells["unit"] != unit:
        found = f"found {cells['unit']!r}; write the first"
        raise UserError(f"{where}: expected the unit {unit} for this quantity and relation, {found}")
    if relation == "significant" and cells["rule"] not in TESTED_RULES:
        names = ", ".join(TESTED_RULES)
        raise UserError(f"{where}: significant expected a rule among {names}, found {cells['rule']}; use one")


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
