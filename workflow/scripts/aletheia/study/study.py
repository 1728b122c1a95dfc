"""The study as data: which runs the campaigns ask for, and the settings of each.

A run is named by (model, arm, seed). Two campaigns share a run only when all that decides its result is equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.study.arms import STD, entries, needs_probe, rule_of
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.budget_sweeps import budget_sweeps
from aletheia.study.evaluation_jobs import jobs_of
from aletheia.study.paths import BASE, run_name
from aletheia.study.planned_runs import TURNS, runs_in_turns
from aletheia.study.recipes import stated_keys, timed_arm
from aletheia.study.report_contents import (
    ANSWER_TABLE,
    ARMS_FIGURES,
    CLOSEOUT,
    CURVE_FIGURES,
    CURVE_TABLE,
    LAYER_FIGURES,
    LAYER_TABLE,
    OF_ARMS,
    REPORTS,
    analyses_of,
    figures_of,
    tables_of,
)
from aletheia.study.run_length import lengthened, steps_of
from aletheia.study.search_names import timed_name
from aletheia.study.selectors import COSTS, GRADIENTS, PROBED, UPDATES, reads

if TYPE_CHECKING:
    from aletheia.study.searches import Search


@dataclass
class Run:
    """One training run: its key and the sections that its rules read.

    Attributes
    ----------
    arm_settings
        The keys of its arm that choose its layers and decide its steps.
    settings
        All sections; the arm's own keys of ``adapter`` and ``training`` replace the campaign's.
    trial_seed
        The seed of the runs among whose rates its own is chosen (:mod:`aletheia.study.trials`); None where it is not.
    timed_as
        Arm and seed of the measurement in turns with the standard arm by which a trial of a search takes as many steps
        as take the same seconds (:mod:`aletheia.study.searches`); None for any other run.
    """

    model: str
    arm: str
    seed: int
    arm_settings: dict[str, Any]
    settings: dict[str, Any]
    trial_seed: int | None = None
    timed_as: tuple[str, int] | None = None

    @property
    def kind(self) -> str:
        """Which rule trains it (see :func:`aletheia.study.arms.rule_of`)."""
        return rule_of(self.arm_settings)

    @property
    def selects(self) -> bool:
        """Whether it adapts a selection of the layers."""
        return self.kind != "train_std"

    @property
    def probes(self) -> bool:
        """Whether that selection follows from a probe (see :func:`aletheia.study.arms.needs_probe`)."""
        return needs_probe(self.arm_settings)

    @property
    def reads(self) -> str:
        """What that selection reads (:data:`aletheia.study.selectors.SELECTORS`)."""
        return reads(self.arm_settings)


@dataclass
class Study:
    """The study as the rules need it.

    Attributes
    ----------
    models, data
        The registries.
    campaigns
        As their files say, defaults filled in.
    runs
        By (model, arm, seed).
    batches
        By (model, seed): batch size and accumulation of the plan that all its arms read, the campaign's whatever those
        of an arm are; and its length, in steps, in epochs, or both, of which the longer one holds.
    shared
        By model: the sections that its probe and its evaluations read, the same for all its runs.
    train_rows
        By name of a data set: its training rows, where they are known before its rows are encoded.
    asked
        By (model, arm): the benchmarks that some campaign asks of its runs.
    figures
        Look of the figures.
    trials
        By (model, arm, seed): the runs that a search may come to ask for. They are no part of what the study plans.
    searches
        By model: its search (:mod:`aletheia.study.searches`).
    """

    models: dict[str, dict[str, Any]]
    data: dict[str, dict[str, Any]]
    campaigns: list[dict[str, Any]]
    figures: dict[str, Any]
    runs: dict[tuple[str, str, int], Run] = field(default_factory=dict)
    batches: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    train_rows: dict[str, int] = field(default_factory=dict)
    shared: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    trials: dict[tuple[str, str, int], Run] = field(default_factory=dict)
    searches: dict[str, Search] = field(default_factory=dict)

    def run(self, model: str, arm: str, seed: int) -> Run:
        """Return a run of some campaign, or a trial of its search.

        Raises
        ------
        UserError
            When no campaign has it; with the seeds that the arm has.
        """
        run = self.runs.get((model, arm, seed)) or self.trials.get((model, arm, seed))
        if run is None:
            seeds = sorted(run.seed for run in self.runs.values() if (run.model, run.arm) == (model, arm))
            raise UserError(
                f"{model}/{arm}/seed{seed}: expected a run of some campaign (that arm has the seeds "
                f"{', '.join(map(str, seeds)) or 'of other models'}), found none of that name"
            )
        return run

    def declared_runs(self) -> Iterator[Run]:
        """Yield every run that may be asked for: those of campaigns, then the trials of searches."""
        yield from self.runs.values()
        yield from self.trials.values()

    def model_benchmarks(self, model: str) -> list[str]:
        """Return every benchmark that some campaign asks of a model; its base model answers them all."""
        return self.shared[model]["benchmarks"]

    def benchmarks_of(self, model: str, arm: str) -> list[str]:
        """Return the benchmarks that the runs of an arm, or the base model, answer: all that some campaign asks."""
        return self.model_benchmarks(model) if arm == BASE else self.asked[model, arm]

    def evaluation_jobs(self, model: str, arm: str) -> dict[str, list[str]]:
        """Return ``{step: benchmarks}`` of the jobs that evaluate a run of an arm, or the base model."""
        return jobs_of(self.benchmarks_of(model, arm), self.shared[model]["evaluation"]["generation"])

    def benchmark_sets(self, step: str) -> dict[tuple[str, ...], dict[str, list[str]]]:
        """Return ``{benchmarks: {model: arms}}``: the sets that one job of a step asks, and of whose runs."""
        sets: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for model, arm in [*((model, BASE) for model in self.used_models()), *self.asked]:
            benchmarks = tuple(self.evaluation_jobs(model, arm).get(step, []))
            sets.setdefault(benchmarks, {}).setdefault(model, []).append(arm)
        return {benchmarks: evaluated for benchmarks, evaluated in sets.items() if benchmarks}

    def nominal_steps(self, run: Run) -> int | None:
        """Return the steps of a run, without what its arm adds: exact where settings state them.

        Those of epochs are by the rows that are known so far, of which some may keep no target; None where no number
        of rows is known.
        """
        steps = steps_of(run.settings["training"], self.train_rows.get(run.settings["data"]))
        if steps is None or not timed_arm(run.arm_settings):
            return steps
        return lengthened(steps, run.arm_settings["steps"].get("extra_steps_percent"))

    def used_models(self) -> list[str]:
        """Return the models of all campaigns, in the order of first mention."""
        return list(self.shared)

    def used_data(self) -> list[str]:
        """Return training data and question sets that some run reads."""
        names = [settings["data"] for settings in self.shared.values()]
        for settings in self.shared.values():
            names += self.question_sets(settings["benchmarks"], settings).values()
        return list(dict.fromkeys(names))

    @staticmethod
    def question_sets(benchmarks: Iterable[str], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return ``{benchmark: name in the registry of data}`` of the benchmarks that have questions, or passages."""
        keys = {name: BENCHMARKS[name].named_by for name in benchmarks}
        return {name: settings["evaluation"][name][key] for name, key in keys.items() if key}

    def evaluated_runs(self) -> list[tuple[str, str]]:
        """Return (model, run) of all that is evaluated, as paths name them: base models first."""
        models = [(model, BASE) for model in self.used_models()]
        return models + [(run.model, run_name(run.arm, run.seed)) for run in self.runs.values()]

    def result_tables(self) -> list[str]:
        """Return the tables that aggregate writes beside the ledger."""
        reports = set(self.reports())
        tables = {"RESULTS_MASTER.csv": {"speed"}, "RESULTS_CAMPAIGN2.csv": {"downstream", "compute_matched"}}
        names = [name for name, wanted in tables.items() if wanted & reports]
        further = ((LAYER_TABLE, self.probe_keys()), (CURVE_TABLE, self.has_curves()), (ANSWER_TABLE, self.evaluates()))
        return names + [name for name, wanted in further if wanted]

    def tables(self) -> list[int | str]:
        """Return the numbers of the tables that the study has."""
        return tables_of(self.reports(), compared=self.compares_arms())

    def figure_names(self) -> list[str]:
        """Return the figures that the study has."""
        groups = (
            (LAYER_FIGURES, self.probe_keys()),
            (ARMS_FIGURES, self.compares_arms()),
            (CURVE_FIGURES, self.has_curves()),
        )
        return figures_of(self.reports()) + [name for names, wanted in groups if wanted for name in names]

    def compares_arms(self) -> bool:
        """Tell whether some campaign has a model with the standard arm and another one."""
        arms = [entries(campaign, model) for campaign in self.campaigns for model in campaign["models"]]
        return any(STD in names and len(names) > 1 for names in arms)

    def has_curves(self) -> bool:
        """Tell whether some run takes held-out losses on the way."""
        return any(run.settings["training"]["curve_every"] for run in self.runs.values())

    def evaluates(self) -> bool:
        """Tell whether some run is evaluated."""
        return any(self.asked.values())

    def probe_keys(self) -> list[tuple[str, int]]:
        """Return (model, seed) of every probe that some run needs: each run whose layers follow from its scores."""
        return list(dict.fromkeys((run.model, run.seed) for run in self.runs.values() if run.reads in (*PROBED, COSTS)))

    def measured_parts(self, model: str) -> list[str]:
        """Return what the probes of a model measure: what the choice of some arm of it reads."""
        declared = (run for run in self.declared_runs() if run.model == model)
        wanted = {GRADIENTS if run.reads == COSTS else run.reads for run in declared}
        return [part for part in PROBED if part in wanted]

    def updated_runs(self) -> dict[tuple[str, int], Run]:
        """Return, by (model, seed) of each probe by training, the run whose adapters and settings it takes.

        That is the standard one, or where there is none, the first that chooses by such a probe.
        """
        chosen: dict[tuple[str, int], Run] = {}
        for run in self.declared_runs():
            if run.reads == UPDATES:
                chosen.setdefault((run.model, run.seed), self.runs.get((run.model, STD, run.seed), run))
        return chosen

    def arms_of_rule(self, rule: str) -> list[str]:
        """Return the arms that one of the training rules makes."""
        return sorted({run.arm for run in self.declared_runs() if run.kind == rule})

    def measured_precisions(self) -> list[str]:
        """Return the models whose precision is measured."""
        return [model for model in self.used_models() if self.models[model]["dtype"] == "auto"]

    def standard_run(self, model: str, arm: str, seed: int) -> Run:
        """Return the run whose settings the standard arm beside an arm in turns has: std's, or that of its search."""
        if (model, arm, seed) in self.trials:
            return self.searches[model].standard(self)
        return self.run(model, STD, seed)

    def timed_recipes(self, *, again: bool = False) -> list[str]:
        """Return the arms by which recipes of searches are timed in turns with the standard one.

        Parameters
        ----------
        again
            Those of the confirmations instead.
        """
        recipes = (recipe for search in self.searches.values() for recipe in search.timed)
        return list(dict.fromkeys(timed_name(recipe, again=again) for recipe in recipes))

    def paired_runs(self) -> list[Run]:
        """Return the runs that can be timed in turns with the standard arm: all others that have one beside them."""
        others = (run for run in self.runs.values() if run.arm != STD)
        return [run for run in others if (run.model, STD, run.seed) in self.runs]

    def runs_timed_in_turns(self) -> list[Run]:
        """Return those of the runs of :meth:`paired_runs` whose campaign takes its speed from turns."""
        keys = dict.fromkeys(key for campaign in self.campaign_index() for key in runs_in_turns(campaign))
        return [self.runs[key] for key in keys]

    def attributed_runs(self) -> dict[str, Run]:
        """Return, by model, the first run whose layers follow from gradients: its attribution has its settings."""
        first: dict[str, Run] = {}
        for run in self.runs.values():
            if run.reads in (GRADIENTS, COSTS):
                first.setdefault(run.model, run)
        return first

    def analyses(self) -> list[str]:
        """Return the written analyses that the study has, its findings first."""
        of_arms = OF_ARMS if self.compares_arms() else {}
        closeout = CLOSEOUT if budget_sweeps(self.campaigns) else {}
        return [*of_arms.values(), *analyses_of(self.reports()).values(), *closeout.values()]

    def campaign_index(self) -> list[dict[str, Any]]:
        """Return each campaign as aggregate needs it: models, arms, seeds, reports, what to do with mixed rows."""
        return [
            {
                "name": campaign["name"],
                "reports": campaign["reports"],
                "mixed": campaign["mixed"],
                # Only where it is stated, so that the settings of other ledgers stay as they were.
                **(self._turns(campaign) if campaign["speed"] == TURNS else {}),
                **_kinds(campaign["arms"]),
                **_claims(campaign["arms"]),
                "arms": list(campaign["arms"]),
                **self._curves(campaign),
                "seeds": campaign["seeds"],
                "models": {
                    model: {
                        "family": self.models[model].get("family"),
                        "headline": self._setting(campaign, model, "headline"),
                        "parameters": self.models[model].get("parameters"),
                        "benchmarks": self._setting(campaign, model, "benchmarks"),
                        **({"measured_precision": True} if self.models[model]["dtype"] == "auto" else {}),
                        **self._own_arms(campaign, model),
                    }
                    for model in campaign["models"]
                },
            }
            for campaign in self.campaigns
        ]

    @staticmethod
    def _setting(campaign: Mapping[str, Any], model: str, key: str) -> Any:
        """Return a model's setting in a campaign: its override, else the campaign's."""
        return campaign["overrides"].get(model, {}).get(key, campaign[key])

    def _own_arms(self, campaign: Mapping[str, Any], model: str) -> dict[str, Any]:
        """Return the entries about a model's arms that differ from its campaign's: names, kinds, stated keys."""
        arms, (seed, *_) = entries(campaign, model), campaign["seeds"]
        index: dict[str, Any] = {} if list(arms) == list(campaign["arms"]) else {"arms": list(arms)}
        own_arms = campaign["overrides"].get(model, {}).get("arms")
        if own_arms:
            index |= {**_kinds(arms), **_claims(arms), "own_arms": list(own_arms)}
        sections = {arm: stated_keys(entry, self.run(model, arm, seed).settings) for arm, entry in arms.items()}
        recipes = {arm: stated for arm, stated in sections.items() if stated}
        index |= {"recipes": recipes} if recipes else {}
        benchmarks = {arm: entry["benchmarks"] for arm, entry in arms.items() if "benchmarks" in entry}
        return index | ({"arm_benchmarks": benchmarks} if benchmarks else {})

    @staticmethod
    def _turns(campaign: Mapping[str, Any]) -> dict[str, Any]:
        """Return a campaign's entries about timing in turns, with the seeds where not all are timed."""
        count = campaign["interleaving"]["seeds"]
        return {"speed": TURNS} if count is None else {"speed": TURNS, "timed_seeds": campaign["seeds"][:count]}

    def _curves(self, campaign: Mapping[str, Any]) -> dict[str, bool]:
        """Return ``{curves: true}`` for a campaign of which some run takes held-out losses on the way."""
        keys = (
            (model, arm, seed)
            for model in campaign["models"]
            for arm in entries(campaign, model)
            for seed in campaign["seeds"]
        )
        return {"curves": True} if any(self.runs[key].settings["training"]["curve_every"] for key in keys) else {}

    def reports(self) -> list[str]:
        """Return the reports that some campaign feeds, in their fixed order."""
        return [r for r in REPORTS if any(r in c["reports"] for c in self.campaigns)]


def _claims(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``{claims: {arm: {what: other arm}}}``, what arms claim to share with others, where any does."""
    claims = {arm: entry["equal"] for arm, entry in arms.items() if "equal" in entry}
    return {"claims": claims} if claims else {}


def _kinds(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the arms that select layers, those whose selection follows from a probe, and of these by training."""
    updating = [arm for arm, entry in arms.items() if reads(entry) == UPDATES]
    return {
        "selecting": [arm for arm, entry in arms.items() if rule_of(entry) != "train_std"],
        "probing": [arm for arm, entry in arms.items() if needs_probe(entry)],
        # Only where there are some, so that the settings of other ledgers stay as they were.
        **({"updating": updating} if updating else {}),
    }
