"""From what is asked and what the data are to the numbers of a run, each with the reason that stands in its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aletheia.errors import UserError
from aletheia.fit.options import Options
from aletheia.fit.survey import Survey
from aletheia.study.run_length import steps_of

MOST_HELD_OUT = 128
LEAST_HELD_OUT = 4
# Rows set apart for each split, as a share: the fewer there are, the larger, so that a loss over them says something.
SHARES = ((100, 0.20), (400, 0.15), (math.inf, 0.10))
CUT_SHARE = 0.05  # of rows that may be longer than the limit
TOKEN_BLOCK = 32
MOST_TOKENS, USUAL_TOKENS = 1024, 512
# An update for each micro-batch: with linear decay it was sooner at a loss than the paper's (docs/search.md).
STEP_ROWS = 4
LEAST_ROWS = 8
FEWEST_STEPS = 16  # of an epoch, below which a step has fewer rows
LEAST_STEP_ROWS = 2
LEAST_STEPS = 4  # of a run: of fewer nothing can be concluded, and its schedule is mostly warm-up
# Chosen by hand: a run of few steps gets a higher rate. What is best differs by model and rows (--search quick).
SHORT_RUN, SHORT_RATE, LONG_RATE = 100, 1.0e-3, 5.0e-4
RATES = (3.0e-4, 1.0e-3, 3.0e-3)
CURVE_POINTS = 4
# Held-out rows of the losses on the way, where these choose nothing; the benchmark takes all.
USUAL_EVAL_ROWS = 16


@dataclass(frozen=True)
class Choices:
    """The numbers of a study.

    Attributes
    ----------
    held_out, test
        Rows set apart, by which runs are followed and rates chosen, and by which what was chosen is judged; no test
        rows where nothing is chosen.
    train_rows
        Those left to train on.
    max_tokens
        Longest sequence.
    length
        ``{"epochs": 1}`` or ``{"steps": 40}``.
    steps
        Optimiser steps of a run.
    batch_size, accumulation
        Rows of a micro-batch, micro-batches of a step.
    warmup_steps, timing_warmup_steps, curve_every, eval_rows
        As in a campaign; ``curve_every`` None for no losses on the way.
    rates
        One, or those that each arm is tried at.
    reasons
        Where each value comes from, by its key.
    """

    held_out: int
    test: int | None
    train_rows: int
    max_tokens: int
    length: Mapping[str, float]
    steps: int
    batch_size: int
    accumulation: int
    warmup_steps: int
    timing_warmup_steps: int
    curve_every: int | None
    eval_rows: int
    rates: tuple[float, ...]
    reasons: Mapping[str, str]


def choose(options: Options, found: Survey, *, steps: int | None = None, steps_reason: str = "") -> Choices:
    """Return the numbers of a study.

    Parameters
    ----------
    options, found
        What is asked, and what the data are.
    steps, steps_reason
        Steps of a run that a time was turned into, and how.

    Raises
    ------
    UserError
        When too few rows are left to train on, the rows do not allow the split, or a run would have too few steps.
    """
    held_out, test, left, why_held = _split(options, found)
    max_tokens, why_tokens = _max_tokens(options, found)
    epochs = options.epochs or 1
    batch_size, accumulation = _step_shape(left, epochs)
    shape = {"batch_size": batch_size, "accumulation": accumulation}
    length = {"steps": steps} if steps else {"epochs": epochs}
    run_steps = steps_of({"epochs": None, **length, **shape}, left)
    if run_steps < LEAST_STEPS:
        raise UserError(
            f"--epochs: expected at least {LEAST_STEPS} steps, found {run_steps}: {epochs:g} of {left} training rows, "
            f"{batch_size} a step; give {math.ceil(100 * LEAST_STEPS * batch_size / left) / 100:g} or more"
        )
    rates, why_rates = _rates(options, run_steps)
    reasons = {
        "held_out": why_held,
        "max_tokens": why_tokens,
        "length": steps_reason or ("--epochs" if options.epochs else "one pass over the rows"),
        "batch": f"{run_steps} steps of {batch_size * accumulation} rows, of {left} to train on",
        "rates": why_rates,
    }
    eval_rows = held_out if test else min(held_out, USUAL_EVAL_ROWS)
    apart = {"held_out": held_out, "test": test, "train_rows": left, "eval_rows": eval_rows}
    run = {"length": length, "steps": run_steps, **shape, **_schedule(run_steps)}
    return Choices(max_tokens=max_tokens, rates=rates, reasons=reasons, **apart, **run)


def _schedule(steps: int) -> dict[str, int | None]:
    """Return what a run of so many steps has at certain of them; all of it falls within the run."""
    return {
        "warmup_steps": min(steps - 1, max(1, steps // 10)),
        "timing_warmup_steps": min(3, steps - 1),
        "curve_every": steps // CURVE_POINTS if steps > CURVE_POINTS else None,
    }


def _split(options: Options, found: Survey) -> tuple[int, int | None, int, str]:
    """Return held-out, test and training rows, and the reason; by the split that staging will make."""
    from aletheia.staging.splits import split_rows

    rows = len(found.rows)
    share = next(share for most, share in SHARES if rows < most)
    usual = max(LEAST_HELD_OUT, min(MOST_HELD_OUT, round(share * rows)))
    held_out = options.held_out or usual
    test = held_out if options.search != "none" else None
    why = "--held-out" if options.held_out else f"{share:.0%} of {rows} rows, at most {MOST_HELD_OUT}"
    try:
        parts, _ = split_rows(found.rows, held_out=held_out, rows=None, seed=0, test=test)
    except UserError as error:
        raise UserError(f"{options.data}: {error}") from None
    left = len(parts["train"])
    if left < LEAST_ROWS:
        raise UserError(
            f"{options.data}: expected at least {LEAST_ROWS} rows to train on, found {left} of {rows} once {held_out} "
            f"held-out rows{' and as many test rows' if test else ''} are set apart; add rows, or lower --held-out"
        )
    return held_out, test, left, why


def _max_tokens(options: Options, found: Survey) -> tuple[int, str]:
    """Return the longest sequence: the least multiple of a block that cuts few rows, within bounds."""
    most = min(MOST_TOKENS, found.context or MOST_TOKENS)
    if options.max_tokens:
        return options.max_tokens, "--max-tokens"
    if found.lengths is None:
        return min(USUAL_TOKENS, most), "the study's default, since the rows' lengths are not known"
    limit = TOKEN_BLOCK
    while limit < most and found.cut(limit) >= CUT_SHARE:
        limit += TOKEN_BLOCK
    limit = min(limit, most)
    median, high = found.quantile(0.5), found.quantile(0.95)
    cut = f"{found.cut(limit):.1%} are cut" if found.cut(limit) else "none is cut"
    return limit, f"rows have {median} tokens (median), 95 % at most {high}; {cut}"


def _step_shape(rows: int, epochs: float) -> tuple[int, int]:
    """Return a step's shape: one micro-batch, of fewer rows where an epoch would have too few steps."""
    size = STEP_ROWS
    while size > LEAST_STEP_ROWS and epochs * (rows // size) < FEWEST_STEPS:
        size //= 2
    return size, 1


def _rates(options: Options, steps: int) -> tuple[tuple[float, ...], str]:
    if options.rate:
        return (options.rate,), "--rate"
    if options.search != "none":
        return RATES, "each arm keeps the one with the lowest held-out loss"
    short = steps < SHORT_RUN
    rate = SHORT_RATE if short else LONG_RATE
    why = f"a run of fewer than {SHORT_RUN} steps" if short else "the paper's"
    return (rate,), f"{why}; not tuned: --search quick tries three"
