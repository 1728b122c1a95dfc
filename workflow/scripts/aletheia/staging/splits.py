"""Seeded subsets, held-out rows and test rows: no text of either is trained on."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.seeded_order import seeded_order

# A shorter output ("positive") may well answer two questions; such a row leaks only when it is repeated
# whole.
DISTINCT_CHARACTERS = 64
Row = dict[str, Any]


def draw_rows(
    rows: Sequence[Row], count: int | None, *, seed: int, by: str | None = None, without: Collection[int] = ()
) -> list[Row]:
    """Return ``count`` rows drawn by ``seed``, in their own order; all when ``count`` is None.

    Parameters
    ----------
    rows, count, seed
        From which, how many, and the seed of the draw.
    by
        A column: each of its values gets its share of ``count`` (largest remainders), and rows are drawn within it.
    without
        Indices of rows that are not drawn: the next ones of the same order take their place.

    Raises
    ------
    UserError
        When there are fewer.
    """
    available = [i for i in range(len(rows)) if i not in without]
    if count is None:
        return [rows[i] for i in available]
    if count > len(available):
        raise UserError(
            f"expected at least {count} rows to draw from (rows: {count}), found {len(available)}; lower `rows`"
        )
    strata: dict[Any, list[int]] = {}
    for i in available:
        strata.setdefault(rows[i].get(by) if by else None, []).append(i)
    shares = _shares({value: len(members) for value, members in strata.items()}, count, seed=seed)
    picked = [i for value, members in strata.items() for i in seeded_order(members, seed=seed)[: shares[value]]]
    return [rows[i] for i in sorted(picked)]


def _shares(sizes: dict[Any, int], count: int, *, seed: int) -> dict[Any, int]:
    """Return the number of rows that each stratum gives: its share of ``count`` rounded down, the rest by remainder."""
    total = sum(sizes.values())
    shares = {value: count * size // total for value, size in sizes.items()}
    # Equal remainders are common (subjects of equal size): the seed decides among them.
    tie_order = {value: place for place, value in enumerate(seeded_order(sizes, seed=f"{seed}:strata"))}
    largest = sorted(sizes, key=lambda value: (-(count * sizes[value] % total), tie_order[value]))
    for value in largest[: count - sum(shares.values())]:
        shares[value] += 1
    return shares


def split_rows(
    found: Sequence[Row],
    *,
    held_out: int | Sequence[Row] | None,
    rows: int | None,
    seed: int,
    test: int | None = None,
) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Split rows into training, held-out and test ones, so that no text is in two of them.

    Only a row whose text stands once is held out, or a test row: its output (of a chat, each of the assistant's turns),
    or the whole row where that is shorter than ``DISTINCT_CHARACTERS``, since short answers repeat by nature. Training
    rows with the text of a held-out row that the user brought are left out. Test rows are drawn from what is left, by
    an order of their own: the held-out rows are those of a split without them, and so are the training rows that a
    subset draws, but for those that are test rows.

    Parameters
    ----------
    found
        All rows.
    held_out
        How many rows to hold out (none when None), or the held-out rows themselves.
    rows
        How many of the others to train on; all when None.
    seed
        Of all draws.
    test
        How many rows to set apart as test rows; none when None.

    Returns
    -------
    tuple
        ``{"train": …, "heldout": …}``, and ``"test"`` where there are such rows, each in the order of ``found``, each
        row with an ``id``; and the rows left out, by reason.

    Raises
    ------
    UserError
        When there are too few rows for any of them.
    """
    found = [{"id": f"row-{i}", **row} for i, row in enumerate(found)]
    held_out = 0 if held_out is None else held_out
    if isinstance(held_out, int):
        held = _choose_apart(found, held_out, key="held_out", seed=f"{seed}:heldout")
        heldout = [found[i] for i in sorted(held)]
        rest = [row for i, row in enumerate(found) if i not in held]
    else:
        heldout = [{"id": f"heldout-{i}", **row} for i, row in enumerate(held_out)]
        texts = set().union(*map(text_keys, heldout))
        rest = [row for row in found if texts.isdisjoint(text_keys(row))]
    if not rest:
        raise UserError(
            f"no row of {len(found)} is left to train on once the held-out rows are set apart, as all have the text of "
            "one; add rows, or name another file of held-out rows"
        )
    leaked = len(found) - len(rest) - (len(heldout) if isinstance(held_out, int) else 0)
    tested = _choose_apart(rest, test or 0, key="test", seed=f"{seed}:test")
    tables = {"train": draw_rows(rest, rows, seed=seed, without=tested), "heldout": heldout}
    if test:
        tables["test"] = [rest[i] for i in sorted(tested)]
    return tables, {"text of a held-out row": leaked} if leaked else {}


def _choose_apart(found: Sequence[Row], count: int, *, key: str, seed: str) -> set[int]:
    """Return the indices of ``count`` rows with a text of their own; ``key`` is that of the registry, for sentences."""
    keys = [text_keys(row) for row in found]
    times = Counter(text for row in keys for text in row)
    unique = [i for i, row in enumerate(keys) if all(times[text] == 1 for text in row)]
    if count > len(unique) or count >= len(found):
        raise UserError(
            f"{key}: {count} asks for more rows than can be held out ({len(unique)} of {len(found)} rows "
            f"have a text of their own, and some must stay to train on); lower {key} or add rows"
        )
    return set(seeded_order(unique, seed=seed)[:count])


def text_keys(row: Row) -> set[str]:
    """Return the texts of a row that must not be on both sides of a split, apart from space, case and Unicode form.

    Each long answer is such a text by itself, and so is the whole row where it has no long one.
    """
    if "messages" in row:
        turns = [(message["role"], _plain(_said(message))) for message in row["messages"]]
        answers = [said for role, said in turns if role == "assistant"]
        whole = json.dumps(turns)
    elif "text" in row:
        answers = [_plain(row["text"])]
        whole = answers[0]
    else:
        answers = [_plain(row["output"])]
        whole = json.dumps([_plain(row["instruction"]), _plain(row["input"]), *answers])
    return {answer for answer in answers if len(answer) >= DISTINCT_CHARACTERS} or {whole}


def _said(message: Mapping[str, Any]) -> str:
    """Return what a turn says, its calls of tools too."""
    calls = [f"{call['function']['name']} {call['function']['arguments']}" for call in message.get("tool_calls", ())]
    return "\n".join([message["content"], *calls])


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
