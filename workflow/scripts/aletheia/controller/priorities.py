"""Which job this machine runs next, so that the arms of a model and a seed follow each other in time.

Each of these jobs takes all cores, so the one of highest priority among those that are ready runs alone. Priorities (a
rule's may be a function since Snakemake 8) decide nothing but that: they are no input, and trigger no rerun. On a
cluster, where an allocation has its own order, every one is 0.
"""

from __future__ import annotations

from aletheia.study.paths import BASE
from aletheia.study.run_order import planned_order
from aletheia.study.study import Study


class Priorities:
    """The priorities of a study's jobs.

    Jobs that all runs of a model depend on come first, so that a wrong path shows before anything trains. Then come,
    one model and seed after the other: batches, probe and selections; the trainings in their planned order
    (:func:`aletheia.study.run_order.planned_order`); and evaluations and measurements in turns.

    Parameters
    ----------
    study
        Whose jobs.
    local
        Whether they run on this machine.
    """

    def __init__(self, study: Study, *, local: bool) -> None:
        orders = planned_order(study)
        # The priorities of a block: one for the jobs before its trainings, one for each training, one for those after.
        self._width = 2 + max(map(len, orders.values()), default=0) if local else 0
        self._first = {block: self._width * (len(orders) - number) for number, block in enumerate(orders)}
        self._place = {(*block, arm): n for block, order in orders.items() for n, arm in enumerate(order)}

    def shared(self) -> int:
        """Return the priority of the jobs that all runs of a model depend on."""
        return self._width * (len(self._first) + 1)

    def preparation(self, model: str, seed: int) -> int:
        """Return the priority of the jobs whose results the trainings of a model and a seed read."""
        return self._first.get((model, seed), 0) + max(self._width - 1, 0)

    def training(self, model: str, arm: str, seed: int) -> int:
        """Return the priority of a training: the earlier in its block, the higher."""
        return self._first.get((model, seed), 0) + max(self._width - 2 - self._place.get((model, seed, arm), 0), 0)

    def measurement(self, model: str, seed: int) -> int:
        """Return the priority of the measurements in turns of a model and a seed."""
        return self._first.get((model, seed), 0)

    def evaluation(self, model: str, run: str) -> int:
        """Return the priority of a run's evaluation; the base model's comes last."""
        return 0 if run == BASE else self.measurement(model, int(run.split("/seed")[1]))
