"""Logits at the ends of token sequences; a prefix that several of them share is computed once.

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

# A prefix of at most this length is not shared: a pass for it (MMLU's opening line) would save little and split full
# batches. Chosen by hand.
MIN_SHARED_PREFIX_TOKENS = 32


@dataclass(frozen=True)
class ScoredSequence:
    """A token sequence, and the number of its last positions whose logits are needed."""

    tokens: list[int]
    keep: int


@dataclass(frozen=True)
class PrefixGroup:
    """Sequences, by index in ``members``, whose first ``prefix`` tokens are equal."""

    prefix: int
    members: list[int]


def common_prefix_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the number of leading tokens that two sequences share."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def group_by_prefix(
    sequences: Sequence[ScoredSequence], *, min_prefix: int = MIN_SHARED_PREFIX_TOKENS
) -> list[PrefixGroup]:
    """Group sequences by the prefix that they share; those that share none form the last group.

    In sorted order neighbours share most. A run of n neighbours becomes one group with its shortest common prefix, and
    saves (n − 1)·prefix tokens, or is split where that prefix is shortest, whichever saves more.

    Parameters
    ----------
    sequences
        In any order.
    min_prefix
        Only longer prefixes are shared.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].tokens)
    # A prefix must end before the positions whose logits are needed.
    longest = [len(sequences[i].tokens) - sequences[i].keep for i in order]
    joints = []
    for k, (a, b) in enumerate(itertools.pairwise(order)):
        joint = min(common_prefix_length(sequences[a].tokens, sequences[b].tokens), longest[k], longest[k + 1])
        joints.append(joint if joint > min_prefix else 0)
    stretches = [stretch for stretch in _stretches(joints) if stretch[2]]
    taken = {k for start, stop, _ in stretches for k in range(start, stop)}
    rest = [i for k, i in enumerate(order) if k not in taken]
    groups = [PrefixGroup(prefix, order[start:stop]) for start, stop, prefix in stretches]
    return groups + ([PrefixGroup(0, rest)] if rest else [])


def _stretches(joints: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (start, past-the-end, prefix) of the stretches of neighbours that save the most tokens.

    Parameters
    ----------
    joints
        Shared tokens of each sequence and the next.
    """
    # A stretch is finished after its parts; the stack holds (tokens saved, groups) of finished parts.
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
        apart, whole = sum(saved for saved, _ in below), lowest * len(inside)
        split = [group for _, groups in below for group in groups]
        finished.append((whole, [(start, stop, lowest)]) if whole >= apart else (apart, split))
    return finished[0][1]


def tokens_computed(sequences: Sequence[ScoredSequence], groups: Sequence[PrefixGroup], batch_size: int) -> int:
    """Return the number of token positions, padding included, that the passes of these groups compute."""
    total = 0
    for group in groups:
        total += group.prefix
        for chunk in _chunks(sequences, group, batch_size):
            total += len(chunk) * (len(sequences[chunk[0]].tokens) - group.prefix)
    return total


def _chunks(sequences: Sequence[ScoredSequence], group: PrefixGroup, batch_size: int) -> Iterator[list[int]]:
    """Yield a group's members in batches, the longest first: little padding, and memory runs out early if at all."""
    members = sorted(group.members, key=lambda i: -len(sequences[i].tokens))
    for start in range(0, len(members), batch_size):
        yield members[start : start + batch_size]


def _plan_groups(sequences: Sequence[ScoredSequence], window: int | None, reuse: bool) -> list[PrefixGroup]:
    """Return the groups to compute; sequences longer than the window form one of their own, without a prefix."""
    within = [i for i, each in enumerate(sequences) if window is None or len(each.tokens) <= window]
    beyond = sorted(set(range(len(sequences))) - set(within))
    groups = group_by_prefix([sequences[i] for i in within]) if reuse else [PrefixGroup(0, list(range(len(within))))]
    groups = [PrefixGroup(group.prefix, [within[k] for k in group.members]) for group in groups]
    return [*groups, PrefixGroup(0, beyond)]


def last_logits(
    forward: Callable[..., Any],
    sequences: Sequence[ScoredSequence],
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
    sequences
        In any order.
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
    for group in _plan_groups(sequences, window, reuse):
        cache = None
        if group.prefix:
            prefix = torch.tensor([sequences[group.members[0]].tokens[: group.prefix]], device=device)
            cache = forward(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        for chunk in _chunks(sequences, group, batch_size):
            rows = [sequences[i].tokens[group.prefix :] for i in chunk]
            # Padding is on the right, which no earlier position attends to.
            ids = torch.zeros(len(rows), len(rows[0]), dtype=torch.long, device=device)
            for row, tokens in zip(ids, rows, strict=True):
                row[: len(tokens)] = torch.tensor(tokens, device=device)
            spans = [range(len(row) - sequences[i].keep, len(row)) for i, row in zip(chunk, rows, strict=True)]
            # The head is the widest layer: it computes only positions that some row needs.
            positions = sorted({p for span in spans for p in span})
            logits = forward(
                input_ids=ids,
                past_key_values=repeat_cache(cache, len(chunk)),
                use_cache=cache is not None,
                logits_to_keep=torch.tensor(positions, device=device),
            ).logits
            index_of = {position: k for k, position in enumerate(positions)}
            for i, span, row in zip(chunk, spans, logits, strict=True):
                yield i, row[[index_of[p] for p in span]]


def repeat_cache(cache: Any, rows: int) -> Any:
    """Return a cache with ``rows`` copies of a cache of one row, which stays unchanged."""
    if cache is None:
        return None
    # Layers replace their tensors and never write into them, so shallow copies are enough.
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    copied.batch_repeat_interleave(rows)
    return copied
