"""Tables of losses by row, and their mean: of held-out rows, and of passages of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.evaluation.outcomes import Outcome
from aletheia.training.encoding import encode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aletheia.training.heldout_loss import RowLoss


def ratio_stderr(tokens: Sequence[int], sums: Sequence[float]) -> float | None:
    """Return the standard error of Σ sums / Σ tokens over n rows.

    With R the ratio and e_i = sums_i − R·tokens_i, it is √(n/(n−1) · Σ e_i²) / Σ tokens.

    References
    ----------
    Cochran, *Sampling Techniques*, 3rd ed., section 6.4 (sampling fraction taken as 0).
    """
    n, total = len(tokens), sum(tokens)
    if n < 2:
        return None
    ratio = math.fsum(sums) / total
    squares = math.fsum((s - ratio * t) ** 2 for t, s in zip(tokens, sums, strict=True))
    return math.sqrt(n / (n - 1) * squares) / total


def encode_passages(
    passages: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> list[dict[str, Any]]:
    """Return passages as examples in which every token but the first is a target.

    Unlike a training row, a passage has no end-of-sequence token: fine-tuning teaches where answers end, which in a
    short passage would look like better or worse retention of text.

    Parameters
    ----------
    passages
        Staged rows, each with ``text``.
    tokenizer
        The model's.
    max_tokens
        Longest piece, from the beginning; its beginning-of-sequence token counts, where the tokenizer has one.

    Returns
    -------
    list of dict
        ``input_ids``, ``labels`` and ``row``, the passage's index; without passages that have no token to predict.
    """
    rows = [{"instruction": "", "input": "", "output": passage["text"]} for passage in passages]
    encoded = encode_rows(rows, tokenizer, max_tokens, prompt="text", loss_on="all", what="passages")
    examples = []
    for example in encoded.examples:
        ended = example["input_ids"][-1] == tokenizer.eos_token_id
        ids, labels = (example[key][:-1] if ended else example[key] for key in ("input_ids", "labels"))
        if len(ids) > 1:
            examples.append({"input_ids": ids, "labels": labels, "row": example["row"]})
    return examples


def outcome_of_losses(
    losses: Sequence[RowLoss],
    examples: Sequence[Mapping[str, Any]],
    *,
    what: str,
    ids: Sequence[str] | None = None,
) -> Outcome:
    """Return the loss of rows, the summed cross-entropy over the summed target tokens, with one table row each.

    Parameters
    ----------
    losses
        One for each example.
    examples
        Encoded rows, with ``row``.
    what
        What they are, for the reason where the loss of some is not finite ("held-out rows").
    ids
        Names of the rows, where they have any.
    """
    from aletheia.training.heldout_loss import mean_loss

    losses = sorted(losses)
    table = []
    for loss in losses:
        row, finite = examples[loss.index]["row"], math.isfinite(loss.total)
        name = {} if ids is None else {"id": ids[row]}
        mean = loss.total / loss.tokens if finite else None
        table.append({"row": row, **name, "tokens": loss.tokens, "loss": mean, "status": "ok" if finite else "nan"})
    broken = sum(row["status"] != "ok" for row in table)
    if broken:
        reason = f"the loss of {broken} of {len(table)} {what} is not finite"
        return Outcome("failed", reason, n=len(table), rows=table)
    stderr = ratio_stderr([loss.tokens for loss in losses], [loss.total for loss in losses])
    return Outcome(loss=mean_loss(losses), stderr=stderr, n=len(table), rows=table)
