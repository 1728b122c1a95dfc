"""A whole search from synthetic runs: every rung decided by the library from payloads as its steps write them."""

import json
from typing import Any

from jsonschema import Draft202012Validator

from aletheia.analysis import search_confirmation, search_decisions
from aletheia.analysis.search_decisions import Declared
from aletheia.analysis.search_rows import Evidence
from aletheia.search.space import MADE
from aletheia.search.trials import CONFIRM, SHORT, declared
from aletheia.study.search_names import timed_name
from aletheia.study.search_rungs import BEFORE
from conftest import ROOT
from search_spaces import space

MODEL, STD_SECONDS = "small", 2.0
DECIDE = {**search_decisions.RUNGS, **search_confirmation.RUNGS}
BASE_LOSS = 3.0


class Searched:
    """A search of two recipes, ``good`` and ``bad`` by the gaps given, at two rates of which the second is better.

    Parameters
    ----------
    gaps
        Loss of each recipe less std's; None for runs that fail.
    costs
        Seconds of a recipe's step over those of std's; 1 where not named.
    retention
        By recipe: nats over the base model's; none is measured when None.
    changes
        Of the section ``search``.
    """

    def __init__(self, gaps, *, costs=None, retention=None, **changes: Any) -> None:
        recipes = {name: {"layers": "last", "budget_percent": 10 * (n + 2)} for n, name in enumerate(gaps)}
        plain = {"presets": [], "recipes": recipes, "rates": [5e-4, 1e-3], "budget": {"runs": 40}, "moves": []}
        found = space(**{**plain, "std": {"extras": {"accumulation": 1}}, "keep": 1, **changes})
        self.search = Declared(MODEL, found, declared(found))
        self.gaps, self.costs, self.retention = gaps, costs or {}, retention
        self.rungs: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, dict[str, Any]]:
        """Decide every rung, each on what the one before asked, and return their payloads."""
        for rung, before in BEFORE.items():
            asked = self._asked(rung)
            evidence = Evidence(
                before={each: self.rungs[each] for each in before},
                runs=[self._run(trial) for trial in asked],
                turns=[self._pair(recipe, again=rung == "factorial") for recipe in self._timed(rung, asked)],
                evaluations=self._evaluations(asked),
            )
            self.rungs[rung] = fitting(rung, DECIDE[rung](self.search, evidence))
        return self.rungs

    def _asked(self, rung):
        if rung in ("floor", "scan"):
            return self.search.of_rung(rung)
        last = {"full": "scan", "push": "full", "factorial": "push"}.get(rung)
        keys = [(each["arm"], each["seed"]) for each in self.rungs[last]["asked"]] if last else []
        return [trial for trial in self.search.trials if (trial.arm_name, trial.seed) in keys]

    def _timed(self, rung, asked):
        scanned = [name for name in self.search.space.scanned if name != "std"]
        recipes = {trial.recipe for trial in asked} - {"std"}
        return {"cost": scanned, "push": [*recipes - {*scanned}], "factorial": [*recipes]}.get(rung, [])

    def _run(self, trial):
        gap = self.gaps.get(trial.recipe.split(MADE)[0], 0.0)
        steps = max(1, int(trial.std_steps / self.costs.get(trial.recipe, 1.0)))
        loss = 2.0 + (0.0 if trial.rate == 1e-3 else 0.05) + 0.1 * (64 / trial.std_steps - 1)
        # What all runs of a seed share, and a little that they do not.
        loss += 1e-3 * (trial.seed % 5) + 1e-4 * ((trial.seed * len(trial.recipe)) % 7) + (gap or 0.0)
        ended = {"status": "ok", "reason": None, "eval_loss": loss}
        failed = {"status": "diverged", "reason": "the loss is not finite", "eval_loss": None}
        about = {"arm": trial.arm_name, "seed": trial.seed, "steps": steps, "adapter": {"files": {"a": "00"}}}
        curve = [{"step": 0, "heldout_loss": BASE_LOSS}]
        return {**about, "curve": curve, **(failed if gap is None else ended)}

    def _pair(self, recipe, *, again=False):
        own = [[STD_SECONDS * self.costs.get(recipe, 1.0) * (1 + 0.01 * n)] for n in range(4)]
        std = [[STD_SECONDS] for _ in own]
        arm = timed_name(recipe, again=again)
        arms = {"std": {"step_seconds": std}, arm: {"step_seconds": own}, "std-again": {"step_seconds": std}}
        return {"arm": arm, "seed": 42, "status": "ok", "reason": None, "probe_seconds": None, "arms": arms}

    def _evaluations(self, asked):
        found = []
        for trial in asked:
            run, key = self._run(trial), {"arm": trial.arm_name, "seed": trial.seed}
            ended = {"status": run["status"] if run["status"] == "ok" else "no_adapter"}
            if trial.rung in (CONFIRM, SHORT):
                found.append({**key, **ended, "benchmark": "heldout", "loss": run["eval_loss"]})
            if self.retention is not None and trial.rung != SHORT:
                loss = 4.0 + self.retention.get(trial.recipe, 0.0) + 1e-4 * (trial.seed % 3)
                found.append({**key, **ended, "benchmark": "retention", "loss": loss})
        base = {"arm": "base", "seed": None, "status": "ok", "benchmark": "retention", "loss": 4.0}
        return found if self.retention is None else [*found, base]


def fitting(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return a payload as its artifact holds it, after checking that it fits its schema."""
    schema = json.loads((ROOT / f"workflow/schemas/{kind}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(payload)
    return json.loads(json.dumps(payload, allow_nan=False))
