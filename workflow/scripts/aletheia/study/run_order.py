"""The order in which the arms of a model and a seed run on this machine: seeded, and balanced over seeds."""

from __future__ import annotations

from aletheia.seeded_order import seeded_order
from aletheia.study.study import Study

Block = tuple[str, int]  # model, seed


def planned_order(study: Study) -> dict[Block, list[str]]:
    """Return the arms of each model and seed in their planned order; models and seeds in the study's.

    A model's arms are put into a random order, drawn from its name, and each further seed begins with the next arm of
    it: over as many seeds as arms each arm comes at each position once (a Latin square), so that what changes along a
    block, such as a machine that warms up, favours none. An arm whose steps others' measured times decide comes after
    these, whatever its place.
    """
    by_block: dict[Block, list[str]] = {}
    for run in study.runs.values():
        by_block.setdefault((run.model, run.seed), []).append(run.arm)
    orders: dict[Block, list[str]] = {}
    for model in study.used_models():
        blocks = [block for block in by_block if block[0] == model]
        arms = seeded_order(dict.fromkeys(arm for block in blocks for arm in by_block[block]), seed=f"order of {model}")
        for number, block in enumerate(blocks):
            start = number % len(arms)
            orders[block] = [arm for arm in (*arms[start:], *arms[:start]) if arm in by_block[block]]
    return orders
