"""A table as text: numbers with their spread, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

DASH, MARK = "–", "†"
FLOOR = "‡"
FLOOR_NOTE = (
    f"{FLOOR} at the floor: answers of the base model or after training are no better than guessing, or mostly none; "
    "a base model there has nothing to forget."
)
IMPLAUSIBLE = "§"
IMPLAUSIBLE_NOTE = (
    f"{IMPLAUSIBLE} implausible: the base model's score is far below a published one, so that no change of it says "
    "anything; in no mean over models and in no verdict."
)


@dataclass(frozen=True)
class Table:
    """One table: ``numbers`` for machines (units in the column names), ``display`` for readers (strings)."""

    number: int | str
    title: str
    note: str
    numbers: pd.DataFrame
    display: pd.DataFrame


def number(value: float | None, digits: int, sign: str = "") -> str:
    """Return a number as text; missing is a dash, and a rounded zero has no sign."""
    if value is None or pd.isna(value):
        return DASH
    text = f"{value:{sign}.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")


def marks_of(score: Mapping[str, Any] | None, *, flag: str = "flagged") -> str:
    """Return the marks of a score or a difference of scores: of the floor, and of an implausible base model.

    Parameters
    ----------
    score
        With the key ``flag`` and ``implausible_base``, as the statistics have it; None has no mark.
    flag
        ``base_flagged`` where the score is the base model's.
    """
    if score is None:
        return ""
    return (FLOOR if score[flag] else "") + (IMPLAUSIBLE if score["implausible_base"] else "")


def marked(text: str, marks: str) -> str:
    """Return a text with its marks, where it is not missing."""
    return text if text == DASH else text + marks


def notes_on(texts: Iterable[str]) -> str:
    """Return the sentences on the marks that some texts have, each after a space."""
    together = " ".join(texts)
    notes = {FLOOR: FLOOR_NOTE, IMPLAUSIBLE: IMPLAUSIBLE_NOTE}
    return "".join(f" {note}" for mark, note in notes.items() if mark in together)


def mean_sd(value: dict[str, Any], digits: int, sign: str = "") -> str:
    """Return "mean ± SD"; the mean alone where one value has no SD."""
    text = number(value["mean"], digits, sign)
    return text if value["sd"] is None else f"{text} ± {number(value['sd'], digits)}"


def interval(value: dict[str, Any], digits: int, sign: str = "") -> str:
    """Return "mean [low, high]"."""
    text = number(value["mean"], digits, sign)
    if value["low"] is None:
        return text
    return f"{text} [{number(value['low'], digits, sign)}, {number(value['high'], digits, sign)}]"


def p_value(p: float | None) -> str:
    """Return a p-value as text."""
    return DASH if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def count_text(n: int, unit: str) -> str:
    """Return "3 seeds", "1 model"."""
    return f"{n} {unit}" + ("" if n == 1 else "s")


def bounds(value: dict[str, Any], digits: int) -> str:
    """Return "low to high"; a dash where there is no interval."""
    if value["low"] is None:
        return DASH
    return f"{number(value['low'], digits)} to {number(value['high'], digits)}"


def markdown_rows(display: pd.DataFrame) -> str:
    """Return the frame of strings as a Markdown table, numbers to the right and words to the left."""
    head = [str(name) for name in display.columns]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in display.itertuples(index=False)]
    rule = ["---:" if _numeric(column) else ":---" for column in zip(*cells, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *cells]) + "\n"


def filled_table(rows: Sequence[Mapping[str, str]], leave_out: Sequence[str] = ()) -> list[str]:
    """Return rows as one Markdown table without the columns that no row fills; nothing where there are no rows.

    Parameters
    ----------
    rows
        Each ``{column: text}``.
    leave_out
        Columns that are not shown.
    """
    if not rows:
        return []
    shown = pd.DataFrame(list(rows)).drop(columns=list(leave_out))
    empty = [name for name in shown.columns if (shown[name] == DASH).all()]
    return [markdown_rows(shown.drop(columns=empty)).strip()]


def _numeric(column: Iterable[str]) -> bool:
    return all(cell[:1] in "0123456789+−<±–" for cell in column)


def markdown(table: Table) -> str:
    """Return the whole table in Markdown: title, rows, note."""
    return f"**Table {table.number}.** {table.title}\n\n{markdown_rows(table.display)}\n{table.note}\n"


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"\textsuperscript{\S}",
    "→": r"$\rightarrow$",
}


def tex_text(text: str) -> str:
    """Return ``text`` with LaTeX's special characters escaped."""
    return "".join(_TEX.get(character, character) for character in text)


def _columns(display: pd.DataFrame) -> str:
    return "".join("r" if _numeric(map(str, display[name])) else "l" for name in display.columns)


def latex(table: Table) -> str:
    """Return the table in LaTeX (needs ``booktabs`` and, for its width, ``graphicx``)."""
    rows = [table.display.columns, *table.display.itertuples(index=False)]
    head, *body = [" & ".join(tex_text(str(cell)) for cell in row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{tex_text(table.title)} {tex_text(table.note)}}}",
            rf"\label{{tab:table{table.number}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{_columns(table.display)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )
