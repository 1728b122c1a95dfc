"""The wall time of each job on a cluster: the registry's time model, with a margin, within the site's limits."""

from __future__ import annotations

from dataclasses import dataclass

from aletheia.cluster import cost
from aletheia.cluster.search_cost import most_asked, most_at_once
from aletheia.cluster.site import Site
from aletheia.study.equal_time import models_with_costs
from aletheia.study.study import Run, Study


@dataclass(frozen=True)
class WallTimes:
    """Wall time of the first try of each job, in minutes.

    Attributes
    ----------
    study
        The study.
    site
        The cluster.
    """

    study: Study
    site: Site

    def small(self) -> int:
        """Return the wall time of a job `batches` or `select`, in minutes."""
        return self.site.minutes(cost.SMALL_JOB_SECONDS)

    def probe(self, model: str, batches: int | None = None) -> int:
        """Return the minutes of a probe of ``batches`` batches; of the campaign's number when None."""
        entry, settings = self.study.models[model], self._first_run(model).settings
        if batches is not None:
            settings = {**settings, "probe": {**settings["probe"], "batches": batches}}
        return self.site.minutes(cost.probe_seconds(entry, settings) if "time" in entry else None)

    def updates(self, model: str) -> int:
        """Return the minutes of a probe by a few steps of training."""
        entry, settings = self.study.models[model], self._first_run(model).settings
        return self.site.minutes(cost.updates_seconds(entry, settings) if "time" in entry else None)

    def precision(self, model: str) -> int:
        """Return the minutes of the choice of precision: half a minute at most once the model is loaded."""
        entry = self.study.models[model]
        return self.site.minutes(cost.load_seconds(entry) + cost.SMALL_JOB_SECONDS if "time" in entry else None)

    def stability_draw(self, model: str) -> int:
        """Return the minutes of one draw of `snakemake stability`."""
        return self.probe(model, max(self.study.shared[model]["stability"]["batches"]))

    def training(self, model: str, arm: str, seed: int) -> int:
        """Return the minutes of a training run; a compute-matched one takes as many more as its steps.

        One whose steps follow from epochs of rows that nobody has counted yet takes as long as one of a model without
        a known time.
        """
        entry, run = self.study.models[model], self.study.run(model, arm, seed)
        longer = 1 + run.arm_settings.get("extra_steps_percent", 0) / 100
        steps, share = self.study.nominal_steps(run), cost.share_of_rows(self.study, run)
        if "time" not in entry or steps is None:
            return self.site.minutes(None)
        return self.site.minutes(longer * cost.training_seconds(entry, run.settings, share, steps=steps))

    def turns(self, model: str, *, arms: int) -> int:
        """Return the minutes of a job in which ``arms`` arms train in turns."""
        entry, pace = self.study.models[model], self.study.shared[model]["interleaving"]
        return self.site.minutes(cost.turns_seconds(entry, pace, arms=arms) if "time" in entry else None)

    def evaluation(self, model: str) -> int:
        """Return the minutes of one evaluation of all benchmarks that the model is asked."""
        entry = self.study.models[model]
        if "time" not in entry:
            return self.site.minutes(None)
        settings, evaluation = self._first_run(model).settings, self.study.shared[model]["evaluation"]
        questions = cost.questions_of(self.study, model)
        return self.site.minutes(cost.evaluation_seconds(entry, settings, evaluation, questions))

    def allocation(self, model: str, seed: int) -> int:
        """Return the minutes of the one allocation of a model and a seed: batches, probes, selections, all arms.

        And the attribution that measures the step costs of the model, where some arm's layers or steps follow from
        them.
        """
        runs = [run for run in self.study.runs.values() if (run.model, run.seed) == (model, seed)]
        probes = self.probe(model) if (model, seed) in self.study.probe_keys() else 0
        probes += self.updates(model) if (model, seed) in self.study.updated_runs() else 0
        small = self.small() * (1 + sum(run.selects for run in runs))
        measured = model in models_with_costs(self.study) and self.study.attributed_runs()[model].seed == seed
        costs = self.turns(model, arms=cost.ATTRIBUTED_ARMS) if measured else 0
        own = small + probes + costs + sum(self.training(model, run.arm, seed) for run in runs)
        return own + (self._searched(model, seed) if model in self.study.searches else 0)

    def _searched(self, model: str, seed: int) -> int:
        """Return the minutes of the most trials of a search, with what they need, that share an allocation."""
        search = self.study.searches[model]
        asked = most_at_once(self.study, search, seed)
        turns = asked.pop("turns", 0)
        first = {rung: search.of_rung(rung)[0] for rung, count in asked.items() if count and search.of_rung(rung)}
        trained = sum(asked[rung] * self.training(model, each.arm_name, each.seed) for rung, each in first.items())
        selects = self.small() * (1 + turns + sum(asked.values()))
        probes = self.probe(model) if seed in most_asked(self.study, search).probed_seeds else 0
        return trained + turns * self.turns(model, arms=cost.ARMS_PER_MEASUREMENT) + selects + probes

    def _first_run(self, model: str) -> Run:
        return next(run for run in self.study.runs.values() if run.model == model)
