"""Write what a finished study of controls found, every run of it, to controls.json.

    benchmarks/controls.py results-controls     the results of `snakemake controls --configfile config/controls.yaml`

`p` is that of the gradient's choice among the random draws, and `arms` has each arm with the layers, the rate and the
losses of each of its runs: `heldout` of the rows by which rates are chosen, `test` of those that judge.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "workflow" / "scripts"))

from aletheia.provenance import artifacts  # noqa: E402

FACTS = ("layers", "unit", "score", "draw", "reads", "steps", "layers_adapted", "trainable_parameters")
MEASURES = ("step_predicted", "step_measured", "probe_percent", "loss", "to_std", "to_selector", "to_draws")


def runs(results: Path, model: str, arm: str) -> dict[str, Any]:
    """Return the runs of an arm by seed."""
    found = {}
    for path in sorted((results / "train" / model / arm).glob("seed*/run.json")):
        run, seed = artifacts.payload(path, "run"), path.parent.name.removeprefix("seed")
        selection = results / "select" / model / arm / f"seed{seed}.json"
        evaluation = artifacts.payload(
            results / "evaluate" / model / arm / f"seed{seed}" / "heldout.json", "evaluation"
        )
        found[seed] = {
            "status": run["status"],
            "learning_rate": run["learning_rate"],
            "steps": run["steps"],
            "layers": artifacts.payload(selection, "selection")["layers"] if selection.is_file() else None,
            "heldout": run["eval_loss"],
            "test": evaluation["loss"],
            "test_stderr": evaluation["stderr"],
            "curve": run["curve"],
        }
    return found


def arms(results: Path, campaigns: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return every arm of some campaigns, each by the first campaign that has it."""
    found: dict[str, Any] = {}
    for campaign in campaigns:
        for model in campaign["models"]:
            for arm, facts in model["arms"].items():
                told = {key: facts[key] for key in (*FACTS, *MEASURES) if key in facts}
                entry = {"campaign": campaign["name"], **told, "runs": runs(results, model["model"], arm)}
                found.setdefault(arm, entry)
    return found


def main() -> None:
    """Read the results; write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the study's results, of one model")
    results = parser.parse_args().results
    summary = results / "controls" / "summary.json"
    if not summary.is_file():
        parser.error(f"{summary}: expected the answer of `snakemake controls` here, found none")
    envelope = artifacts.read(summary, "controls")
    campaigns = envelope["payload"]["campaigns"]
    models = {model["model"] for campaign in campaigns for model in campaign["models"]}
    if len(models) > 1:
        parser.error(f"expected results of one model, found those of {', '.join(sorted(models))}")
    tests = {name: campaign["models"][0]["tests"] for campaign in campaigns if (name := campaign["name"])}
    ran = artifacts.read(next((results / "train").glob("*/std/seed*/run.json")), "run")
    result = {
        "what": "Every choice of layers that was tried, and what its runs ended at.",
        "model": models.pop(),
        "machine": {key: ran["observed"][key] for key in ("device", "cores", "threads", "system")},
        "p": _p_of_gradient(campaigns),
        "tests": tests,
        "overlap": {campaign["name"]: campaign["models"][0]["overlap"] for campaign in campaigns},
        "claims": {campaign["name"]: campaign["models"][0]["claims"] for campaign in campaigns},
        "arms": arms(results, campaigns),
    }
    path = HERE / "controls.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{path}: {len(result['arms'])} arms, p = {result['p']}")


def _p_of_gradient(campaigns: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the p of the gradient's choice in the first campaign that has one."""
    for campaign in campaigns:
        for model in campaign["models"]:
            for test in model["tests"]:
                if (test["arm"], test["against"]) == (model["selector"], "random"):
                    return test["p"]
    return None


if __name__ == "__main__":
    main()
