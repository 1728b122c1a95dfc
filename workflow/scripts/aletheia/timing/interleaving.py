"""Arms that take turns in one process, in blocks of steps, on the same batches and the same base weights.

Times of one process, a few seconds apart, share the machine's state, so their ratio is tighter than that of two runs.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.provenance.start import work_begins
from aletheia.timing.rounds import Turns
from aletheia.training.trainer import TrainingRecord

if TYPE_CHECKING:
    from torch import nn

    from aletheia.training.loop import Loop

WARMUP_ROUNDS = 1  # caches, memory pools and autotuning fill in the first block of each arm


def total_steps(section: Mapping[str, int]) -> int:
    """Return each arm's number of optimiser steps under an ``interleaving`` section, warm-up included."""
    return (WARMUP_ROUNDS + section["rounds"]) * section["steps"]


def equal_rows(std: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many steps std and another arm need for the same rows; (1, 1) where neither's divide the other's.

    With equal steps an arm of smaller ones would be on other rows than std, and a round's ratio would be about the
    lengths of these rows.

    Parameters
    ----------
    std, own
        Sections ``training``, of which ``batch_size`` and ``accumulation`` are read.
    """
    rows, own_rows = (each["batch_size"] * each["accumulation"] for each in (std, own))
    if rows % own_rows and own_rows % rows:
        return 1, 1
    return max(1, own_rows // rows), max(1, rows // own_rows)


def copy_sharing_weights(model: nn.Module) -> nn.Module:
    """Return a copy of a model that owns its modules and shares every parameter and buffer with it.

    Modules that are attached to one of them later, such as adapters, are not in the other. The shared weights must stay
    frozen, as they do in training with adapters.

    Parameters
    ----------
    model
        A base model, 4-bit weights and tied ones included.
    """
    tensors = [*model.parameters(), *model.buffers()]
    # A 4-bit weight carries its quantisation state, to which its module refers too.
    states = [state for t in tensors if (state := getattr(t, "quant_state", None)) is not None]
    return copy.deepcopy(model, {id(shared): shared for shared in [*tensors, *states]})


def round_order(names: Sequence[str], number: int) -> list[str]:
    """Return the order of the arms in a round.

    Rounds come in pairs, the second in the reverse order of the first, so that a drift affects all arms equally; the
    next pair begins one arm further. Over 2n rounds each of n arms has each position equally often. With three arms the
    six orders are a Williams design: each arm also follows each other one equally often.

    Parameters
    ----------
    names
        The arms.
    number
        Of the round, from 0.

    References
    ----------
    Williams, "Experimental designs balanced for the estimation of residual effects of treatments", Australian Journal
    of Scientific Research A 2 (1949).
    """
    start = number // 2 % len(names)
    rotated = [*names[start:], *names[:start]]
    return rotated if number % 2 == 0 else rotated[::-1]


def round_orders(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Return the order of the arms in each counted round."""
    return [round_order(names, number) for number in range(rounds)]


def take_turns(
    makers: Mapping[str, Callable[[], Loop]], *, rounds: int, steps: int, times: Mapping[str, int] | None = None
) -> dict[str, Turns]:
    """Run arms in alternating blocks.

    Parameters
    ----------
    makers
        By arm: a function that returns its loop, of :func:`total_steps` steps or more. All are called before the first
        block.
    rounds
        Counted rounds, each in the order of :func:`round_order`. One more comes first, as warm-up.
    steps
        Optimiser steps of each arm in a round.
    times
        By arm: how many times as many steps it has (:func:`equal_rows`); once where it is not named.

    Returns
    -------
    dict
        By arm. One that diverges, crashes or runs out of memory ends there with a status, and the others go on.
    """
    turns = {name: Turns() for name in makers}
    built = {name: _call_or_record(turns[name], make) for name, make in makers.items()}
    loops = {name: built.pop(name) for name in makers if built[name] is not None}
    work_begins()
    for number in range(WARMUP_ROUNDS + rounds):
        order = round_order(list(makers), max(0, number - WARMUP_ROUNDS))
        for name in [name for name in order if name in loops]:
            own = steps * (times or {}).get(name, 1)
            block = _call_or_record(turns[name], lambda name=name, own=own: _block(turns[name], loops[name], own))
            if block is None:
                # Frees its gradients and moments for the other arms.
                del loops[name]
                gc.collect()
            elif number >= WARMUP_ROUNDS:
                turns[name].step_seconds.append(block)
        name_of_round = f"round {number} of {rounds}" if number >= WARMUP_ROUNDS else "warm-up"
        print(f"{name_of_round}: {len(loops)} arms", flush=True)
    return turns


def _block(turns: Turns, loop: Loop, steps: int) -> list[float] | None:
    """Return the seconds of an arm's next steps; None where it diverged."""
    seconds = []
    try:
        for _ in range(steps):
            start = time.perf_counter()
            step = loop.step()
            seconds.append(time.perf_counter() - start)
            if step.failure:
                turns.status, turns.reason = "diverged", step.failure
                return None
    finally:
        turns.placement = loop.placement  # complete once the arm's first pass has ended
    return seconds


def _call_or_record(turns: Turns, action: Callable[[], Any]) -> Any:
    """Return the result of an action; where it runs out of memory or torch raises, record that and return None."""
    try:
        return action()
    except (RuntimeError, MemoryError) as error:
        record = TrainingRecord()
        record.fail_by(error)
        turns.status, turns.reason = record.status, record.reason
        return None
