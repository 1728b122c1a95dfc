"""The first paragraph of REPLICATION.md: in plain words, whether our runs and the paper agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.analysis.comparability import FAILED
from aletheia.analysis.replication_groups import ALL
from aletheia.inference.replication import NOT_COMPARABLE
from aletheia.report.table_text import number, p_value

GROUPS = {"speed": "speedup (table 2)", "quality": "extras (tables 3, 4)", "loss": "loss difference (table 5)"}
CHANCE = 0.05  # below this p, corrected, disagreement is called more than chance


def answer(summary: Mapping[str, Any]) -> str:
    """Return the paragraph.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.replication.replicate`.
    """
    models, cells = summary["models"], summary["cells"]
    shared = len(models["shared"])
    first = f"This study has {shared} of the paper's {models['published']} models."
    failed = sum(cell["comparable"] == FAILED for cell in cells)
    lost = f"For {_count(failed, 'value')} our runs failed, which is no agreement." if failed else ""
    if not summary["groups"]:
        return " ".join(filter(None, [first, _NOTHING, lost]))
    (found,), _ = _split(summary["groups"])
    others = sum(cell["verdict"] == NOT_COMPARABLE for cell in cells)
    sentences = [first, _agreement(found), _chance(summary["groups"]), _devices(found), lost]
    if others:
        sentences.append(
            f"{others} cells of its tables have no verdict here: not measured in this study, or of a kind that cannot "
            "be compared, such as seconds on another machine or scores on other questions."
        )
    return " ".join(filter(None, sentences))


_NOTHING = (
    "None of its results (speedups, changes of test scores, differences of losses) can be held against ours yet, so "
    "nothing is said of agreement."
)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _verb(n: int, verb: str) -> str:
    return f"{n} {verb}" + ("s" if n == 1 else "")


def _agreement(found: Mapping[str, Any]) -> str:
    k, wide = found["k"], found["not_informative"]
    inside, outside = found["inside"] - wide, k - found["inside"]
    signs = f", {found['opposite_sign']} of them with the opposite sign" if found["opposite_sign"] else ""
    return (
        f"{_count(k, 'result')} of the paper (speedups, changes of test scores, differences of losses) can be held "
        f"against ours: {_verb(inside, 'agree')} within the error of both sides, {_verb(outside, 'disagree')}{signs}, "
        f"and for {wide} the error is too wide to tell."
    )


def _chance(groups: Sequence[Mapping[str, Any]]) -> str:
    (found,), kinds = _split(groups)
    tests = 2 * len(kinds)
    smallest = {group["group"]: min(1.0, tests * min(group["p_as_few"], group["q_p"])) for group in kinds}
    beyond = [GROUPS[name] for name, p in smallest.items() if p < CHANCE]
    expected = f"By chance alone {number(found['k'] - found['expected'], 1)} would disagree"
    if not beyond:
        shown = "" if found["inside"] > found["not_informative"] else " Nor is agreement shown."
        return f"{expected}, so this is no disagreement beyond chance.{shown}"
    p = p_value(min(smallest.values()))
    told = f"p below {p[1:]}" if p.startswith("<") else f"p = {p}"
    return f"{expected}. More disagree, or by more, than chance explains ({told}) in {' and '.join(beyond)}."


def _split(groups: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return all together, and each kind of result."""
    return [g for g in groups if g["group"] == ALL], [g for g in groups if g["group"] != ALL]


def _devices(found: Mapping[str, Any]) -> str:
    n = found["k"] - found["comparable"]
    if not n:
        return ""
    which = "All of them are" if n == found["k"] else f"{n} of them are"
    return f"{which} indications only, measured under other conditions than the paper's (another device, other data)."
