"""REPLICATION.md: do our runs agree with the paper's tables? The answer in plain words, then cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aletheia.analysis.comparability import FAILED, HAS_VERDICT, NO, NOT_RUN
from aletheia.analysis.published_cells import RATIO, SECONDS, SIZE, SPEEDUP
from aletheia.inference.replication import EQUAL, LEVEL, OUTSIDE, UNEQUAL
from aletheia.report.replication_answer import CHANCE, GROUPS, answer
from aletheia.report.table_text import DASH, interval, markdown_rows, number, p_value

TITLES = {
    1: "Table 1: the models",
    2: "Table 2: speed",
    3: "Table 3: MMLU",
    4: "Table 4: further benchmarks",
    5: "Table 5: losses at equal compute",
}
_DIGITS = {SPEEDUP: 1, SECONDS: 1, SIZE: 1, RATIO: 3, "loss": 4, "loss difference": 4, "layers": 0}
_UNITS = {"seconds": "s", "percent": "%", "pp": "pp", "loss": "nats", "billions": "billions"}
_RULES = f"""
## Rules

- **Interval**: where the paper's mean is expected, given ours:
  x_o ± t_ν·√(s_o²/n_o + s_p²·k/n_p + q_o² + q_p² + u²/12) at {100 * LEVEL:g} % (Spence and Stanley 2016), ν by
  Satterthwaite. s: SD over runs, of ours and of the paper's three; q: standard error over questions; u: unit of the
  paper's last digit.
- **±** in the paper fits an SD divided by n (all p-values of table 2 are then possible), so k = 3/2. The ends with
  k = 1 are in `cells.csv`, `low_sample_sd` and `high_sample_sd`.
- **No SD in the paper** (tables 3 to 5): ours stands for it. With one seed of ours the paper's SD stands for ours, of
  times on an A100 alone.
- **Questions**: q_o from our answers question by question, subjects as clusters; without these its bound, that of two
  unrelated scores, with which little can be said. q_p is that of as many other questions as the paper asked (200, 200,
  164). HumanEval's are the same on both sides, for which this is too wide.
- **Inside** says little, *not informative*, where the half-width is more than the margin of points in
  `config/analysis.yaml` (scores), or than twice the paper's effect (speed, losses). Outside is told at any width.
- **Held against ours** is one cell a model, campaign and result: speedups, extras, loss differences. Ratios, seconds
  and deltas say the same once more. All with an interval count, also the not informative ones: without them agreement
  alone would be left out.
- **By chance**: Binomial(k, {LEVEL:g}) takes the cells as independent. Models share their questions and some of their
  runs, so its p is rough. **Q** = Σ z² over the cells, z the normal score of the paper's value in its interval, is χ²
  of k degrees of freedom where nothing but chance lies between. Of each kind of result both p are taken; disagreement
  is called more than chance where one of them, times their number, is below {CHANCE:g}.
- **Comparable**: speedups on an A100; *indicative* on another device, with the probe counted, of losses (other data),
  and of scores whose base model is at the level of guessing in the paper. Seconds only on an A100 of 64 GB, as an
  indication. Scores themselves never: questions, prompts and scoring are others.
- **Sizes** are those of names in the paper: equal within one unit of the last digit.
"""


def replication_text(summary: Mapping[str, Any]) -> str:
    """Return REPLICATION.md.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.replication.replicate`.
    """
    parts = ["# Do our runs agree with the paper?", answer(summary)]
    parts += ["Each published value and ours, a line a cell: `figR1.svg`. Every number: `cells.csv`."]
    parts += _groups(summary["groups"])
    parts += _outside(summary["cells"])
    parts += _rebuilt(summary["rebuilt"])
    for table, title in TITLES.items():
        own = [cell for cell in summary["cells"] if cell["table"] == table and cell["comparable"] in HAS_VERDICT]
        parts += [f"## {title}", _facts(own) if table == 1 else _cells(own)] if own else []
    parts += _claims(summary["claims"])
    parts += _others(summary["cells"])
    return "\n\n".join([*parts, _RULES.strip()]) + "\n"


def _groups(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        {
            "Result": GROUPS.get(group["group"], "all"),
            "Cells": str(group["k"]),
            "Inside": f"{group['inside']} ({group['not_informative']} not informative)",
            "Expected": number(group["expected"], 1),
            "Outside, same sign": str(group["same_sign"]),
            "Outside, opposite sign": str(group["opposite_sign"]),
            "p (so few inside)": p_value(group["p_as_few"]),
            "Q (p)": f"{number(group['q'], 1)} ({p_value(group['q_p'])})",
            "Ours − paper": DASH if group["difference"] is None else _difference(group),
        }
        for group in groups
    ]
    if not rows:
        return []
    slopes = [
        f"Our speedups on the paper's, over {group['slope']['n']} models: slope {number(group['slope']['slope'], 2)} "
        f"[{number(group['slope']['low'], 2)}, {number(group['slope']['high'], 2)}]; 1 is agreement."
        for group in groups
        if group["slope"]
    ]
    return ["## All together", markdown_rows(pd.DataFrame(rows)).strip(), *slopes]


def _difference(group: Mapping[str, Any]) -> str:
    digits = 4 if group["group"] == "loss" else 1
    return f"{interval(group['difference'], digits, '+')} (n = {group['difference']['n']})"


def _outside(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    own = [cell for cell in cells if cell["verdict"] in (*OUTSIDE, UNEQUAL)]
    return ["## What does not agree", _cells(own)] if own else []


def _facts(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence how many facts of the models are the paper's; those that are not stand above."""
    equal = Counter(cell["quantity"] for cell in cells if cell["verdict"] == EQUAL)
    told = Counter(cell["quantity"] for cell in cells)
    return (
        "Equal: "
        + ", ".join(
            f"{quantity_text(cell)} of {equal[name]} of {told[name]} models"
            for name, cell in {cell["quantity"]: cell for cell in cells}.items()
        )
        + "."
    )


def _rebuilt(rebuilt: Mapping[str, Any] | None) -> list[str]:
    if rebuilt is None:
        return []
    rows = [
        {
            "Of": {"ours": "our runs", "published": "the paper's rows"}[side],
            "Unit": unit,
            "n": str(found["n"]),
            "t": number(found["t"], 2),
            "d": number(found["d"], 2),
            "Speedup (%)": _with_sd(found["speedup_percent"], found["speedup_sd"], 1),
        }
        for side, units in rebuilt.items()
        for unit, found in units.items()
    ]
    told = (
        "The paper's overall test (t = 9.518, d = 1.74, 23.1 ± 4.9 %) is one of seconds over pairs, which takes the "
        "seeds of a model for independent models. The same test of the models in common, and with models as the unit:"
    )
    return ["## The overall test of speed, rebuilt", told, markdown_rows(pd.DataFrame(rows)).strip()]


def quantity_text(cell: Mapping[str, Any]) -> str:
    """Return what a cell is of, with its unit, for readers."""
    words = cell["quantity"].split("_")
    unit = _UNITS.get(words[-1])
    text = " ".join(words[:-1] if unit and words[-1] != "loss" else words)
    names = {"mmlu": "MMLU", "gsm8k": "GSM8K", "humaneval": "HumanEval", "cm minus std": "cm − std", "delta": "Δ"}
    for name, shown in names.items():
        text = text.replace(name, shown)
    return f"{text} ({unit})" if unit else text


def _cells(cells: Sequence[Mapping[str, Any]]) -> str:
    several = len({cell["campaign"] for cell in cells}) > 1
    rows = []
    for cell in cells:
        digits = _DIGITS.get(cell["kind"], 2)
        bounds = {"mean": cell["ours_mean"], "low": cell["low"], "high": cell["high"]}
        seeds = "" if cell["kind"] in (SIZE, "layers") else f" (n = {cell['ours_n']})"
        rows.append(
            {
                **({"Campaign": cell["campaign"] or DASH} if several else {}),
                **{"Model": cell["model"], "Quantity": quantity_text(cell)},
                "Paper": _with_sd(cell["published_mean"], cell["published_sd"], digits),
                "Ours": _with_sd(cell["ours_mean"], cell["ours_sd"], digits) + seeds,
                "Expected": DASH if cell["low"] is None else interval(bounds, digits).partition(" ")[2],
                **{"Verdict": cell["verdict"], "Comparable": cell["comparable"], "Why": cell["reason"]},
            }
        )
    return markdown_rows(pd.DataFrame(rows)).strip()


def _with_sd(mean: float | None, sd: float | None, digits: int) -> str:
    return number(mean, digits) + ("" if sd is None else f" ± {number(sd, digits)}")


def _claims(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        {
            "Section": claim["section"],
            "The paper": f"“{claim['quote']}”",
            "Asked": " ".join(filter(None, [claim["quantity"], claim["relation"], claim["threshold"]])).replace(
                "_", " "
            ),
            "In the paper's numbers": claim["published_verdict"],
            "In ours": claim["ours_verdict"] + (f" (n = {claim['ours_n']})" if claim["ours_n"] else ""),
            "Ours": claim["ours_why"],
        }
        for claim in claims
    ]
    told = (
        "Each claim of the text held against the paper's own numbers and against ours, by its rule (`claims.csv`); n "
        "counts models, or is 1 for a number of the study. Scores at the floor are left out."
    )
    return ["## The paper's claims", told, markdown_rows(pd.DataFrame(rows)).strip()] if rows else []


def _others(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cells without a verdict, by reason."""
    parts = []
    for level, title in ((FAILED, "Failed runs of ours"), (NO, "Not comparable"), (NOT_RUN, "Not measured here")):
        own = [cell for cell in cells if cell["comparable"] == level]
        if not own:
            continue
        reasons = Counter((cell["reason"], cell["quantity"]) for cell in own)
        lines = []
        for reason in dict.fromkeys(cell["reason"] for cell in own):
            what = [f"{q.replace('_', ' ')} ({n})" for (r, q), n in reasons.items() if r == reason]
            lines.append(f"- {reason}: {', '.join(what)}")
        parts += [f"## {title}", "\n".join(lines)]
    return parts
