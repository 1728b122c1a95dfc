"""Logits at the ends of token sequences, where what several of them begin with is computed once.

The few-shot examples of an MMLU subject stand before each of its questions. Their keys and values are computed once,
and the questions run in batches over them.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# A prefix must have more tokens than this to deserve a pass of its own: shorter ones (MMLU's opening line) would break
# up full batches for little. Chosen by hand.
WORTH = 32


@dataclass(frozen=True)
class Tail:
    """A token sequence, and the number of its last positions whose logits are wanted."""

    tokens: list[int]
    keep: int


@dataclass(frozen=True)
class Group:
    """Sequences (by index) that begin with the same ``prefix`` tokens."""

    prefix: int
    members: list[int]


def shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many leading tokens two sequences share."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def groups(tails: Sequence[Tail], *, worth: int = WORTH) -> list[Group]:
    """Return groups of sequences, each with the prefix that its members share; those that share none come last.

    Neighbours in sorted order share most. From the whole downwards, a stretch of them becomes one group with its
    shortest common prefix, (n − 1)·prefix tokens spared, or falls apart at that place, whichever spares more.

    Parameters
    ----------
    tails
        The sequences.
    worth
        Shorter prefixes are not shared.
    """
    order = sorted(range(len(tails)), key=lambda i: tails[i].tokens)
    # No prefix may reach into the positions whose logits are wanted.
    room = [len(tails[i].tokens) - tails[i].keep for i in order]
    joints = []
    for k, (a, b) in enumerate(itertools.pairwise(order)):
        joint = min(shared(tails[a].tokens, tails[b].tokens), room[k], room[k + 1])
        joints.append(joint if joint > worth else 0)
    found = [stretch for stretch in _stretches(joints) if stretch[2]]
    taken = {k for start, stop, _ in found for k in range(start, stop)}
    rest = [i for k, i in enumerate(order) if k not in taken]
    made = [Group(prefix, order[start:stop]) for start, stop, prefix in found]
    return made + ([Group(0, rest)] if rest else [])


def _stretches(joints: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (start, past-the-end, prefix) of the stretches of neighbours that spare the most tokens."""
    # Each stretch is looked at once its parts are: (tokens spared, its groups) on a stack of finished parts.
    tasks, finished = [(0, len(joints) + 1, False)], []
    while tasks:
        start, stop, ready = tasks.pop()
        inside = joints[start : stop - 1]
        if not inside:
            finished.append((0, []))
            continue
        lowest = min(inside)
        cuts = [start, *(start + k + 1 for k, joint in enumerate(inside) if joint == lowest), stop]
        parts = list(itertools.pairwise(cuts))
        if not ready:
            tasks.append((start, stop, True))
            tasks += [(a, b, False) for a, b in parts]
            continue
        below = [finished.pop() for _ in parts]
        apart, whole = sum(spared for spared, _ in below), lowest * len(inside)
        kept = [group for _, made in below for group in made]
        finished.append((whole, [(start, stop, lowest)]) if whole >= apart else (apart, kept))
    return finished[0][1]


def tokens_computed(tails: Sequence[Tail], made: Sequence[Group], batch_size: int) -> int:
    """Return how many token positions, padding too, the passes of these groups compute."""
    total = 0
    for group in made:
        total += group.prefix
        for chunk in _chunks(tails, group, batch_size):
            total += len(chunk) * (len(tails[chunk[0]].tokens) - group.prefix)
    return total


def _chunks(tails: Sequence[Tail], group: Group, batch_size: int) -> Iterator[list[int]]:
    """Yield a group's members by length, the longest first, so that little is padded and memory runs out early."""
    members = sorted(group.members, key=lambda i: -len(tails[i].tokens))
    for start in range(0, len(members), batch_size):
        yield members[start : start + batch_size]


def _planned(tails: Sequence[Tail], window: int | None, reuse: bool) -> list[Group]:
    """Return the groups to compute: sequences beyond the window have no company within it, and share no prefix."""
    within = [i for i, tail in enumerate(tails) if window is None or len(tail.tokens) <= window]
    beyond = sorted(set(range(len(tails))) - set(within))
    made = groups([tails[i] for i in within]) if reuse else [Group(0, list(range(len(within))))]
    made = [Group(group.prefix, [within[k] for k in group.members]) for group in made]
    return [*made, Group(0, beyond)]


def tail_logits(
    forward: Callable[..., Any],
    tails: Sequence[Tail],
    *,
    batch_size: int,
    device: torch.device,
    window: int | None = None,
    reuse: bool = True,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (index, logits of the last ``keep`` positions) of every sequence, in the order in which they are computed.

    Parameters
    ----------
    forward
        A causal language model's call; it takes ``input_ids``, ``past_key_values``, ``use_cache``, ``logits_to_keep``.
    tails
        The sequences.
    batch_size
        Sequences a pass.
    device
        Where the model's embeddings are.
    window
        The model's :func:`aletheia.method.loading.original_window`.
    reuse
        Whether prefixes are shared.

    Yields
    ------
    tuple
        Index and logits of shape (keep, vocabulary).
    """
    for group in _planned(tails, window, reuse):
        cache = None
        if group.prefix:
            prefix = torch.tensor([tails[group.members[0]].tokens[: group.prefix]], device=device)
            cache = forward(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        for chunk in _chunks(tails, group, batch_size):
            rows = [tails[i].tokens[group.prefix :] for i in chunk]
            # Padding stands to the right, where a causal model never looks back from.
            ids = torch.zeros(len(rows), len(rows[0]), dtype=torch.long, device=device)
            for row, tokens in zip(ids, rows, strict=True):
                row[: len(tokens)] = torch.tensor(tokens, device=device)
            wanted = [range(len(tokens) - tails[i].keep, len(tokens)) for i, tokens in zip(chunk, rows, strict=True)]
            # The vocabulary is the widest layer: only positions that some row wants go through it.
            positions = sorted({p for span in wanted for p in span})
            logits = forward(
                input_ids=ids,
                past_key_values=repeated(cache, len(chunk)),
                use_cache=cache is not None,
                logits_to_keep=torch.tensor(positions, device=device),
            ).logits
            where = {position: k for k, position in enumerate(positions)}
            for i, span, row in zip(chunk, wanted, logits, strict=True):
                yield i, row[[where[p] for p in span]]


def repeated(cache: Any, rows: int) -> Any:
    """Return a cache of ``rows`` copies of the one that is given, which stays as it is."""
    if cache is None:
        return None
    # Layers replace their tensors and never write into them, so shallow copies do.
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    copied.batch_repeat_interleave(rows)
    return copied
