"""Write whether kept states of the frozen layers bring one to a loss sooner, to prefix.json.

    benchmarks/prefix.py results-prefix     the results of `snakemake --configfile config/prefix.yaml`

The target is the test loss that all layers end at after three epochs, at their best rate of four. Each arm in the last
layers has complete runs of three and of six epochs, each at its own best rate; between the two the steps that it needs
are interpolated along their logarithm. Seconds are steps times their costs, measured here in turns on the campaign's
own micro-batches: the first visit of each micro-batch, and the later ones, which read the states that were kept.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from prefix_sides import ALL, KEEPS, READS, prefix_sides
from run import HERE, interleaved, ratio

from aletheia.analysis.stats import estimate
from aletheia.method.loading import load, use_threads
from aletheia.provenance import artifacts, machine
from aletheia.training.batch_plan import planned_batches
from aletheia.training.token_table import token_rows

MODEL, SEEDS = "smollm2-135m", (42, 123, 999)
SUFFIXES = {"half": (2, 16), "half64": (2, 64), "third": (3, 16)}
LENGTHS = {"": "three epochs", "_long": "six epochs"}
SHAPE = {"batch_size": 4, "accumulation": 1}


def runs_of(results: Path, arm: str) -> dict[int, dict[str, Any]]:
    """Return steps, rate, and held-out and test losses of an arm's runs, by seed."""
    found = {}
    for seed in SEEDS:
        envelope = artifacts.read(results / "train" / MODEL / arm / f"seed{seed}" / "run.json", "run")
        run = envelope["payload"]
        told = artifacts.payload(results / "evaluate" / MODEL / arm / f"seed{seed}" / "heldout.json", "evaluation")
        found[seed] = {"steps": run["steps"], "learning_rate": run["learning_rate"], "status": run["status"]}
        found[seed] |= {"heldout": run["eval_loss"], "test": told["loss"], "plan": run["batch_plan_sha256"]}
        found[seed]["peak_memory_bytes"] = envelope["observed"]["peak_memory_bytes"]
    return found


def trials_of(results: Path) -> dict[str, dict[str, Any]]:
    """Return steps, rate and held-out loss of the runs among which rates were chosen, by arm."""
    found = {}
    for path in sorted((results / "train" / MODEL).glob("*_*e*/seed*/run.json")):
        run = artifacts.payload(path, "run")
        found[run["arm"]] = {key: run[key] for key in ("steps", "learning_rate", "status", "eval_loss")}
    return found


def costs(results: Path, *, rounds: int) -> dict[str, list[float]]:
    """Return seconds of a step of each side in turns, on the first micro-batches of the campaign at its first seed."""
    lock = Path(f"resources/models/{MODEL}.lock.json")
    dtype = artifacts.payload(results / "precision" / f"{MODEL}.json", "precision")["dtype"]
    base, tokenizer = load(lock, dtype=dtype)
    locks = {"model_lock": lock, "data_lock": Path("resources/data/docstrings-few.lock.json")}
    encoding, table = {"prompt": "plain", "max_tokens": 128}, results / "tokens" / f"{MODEL}.safetensors"
    rows = token_rows(table, **locks, encoding=encoding, tokenizer=lambda: tokenizer)
    plan = results / "batches" / MODEL / f"seed{SEEDS[0]}.json"
    batches = planned_batches(rows, tokenizer.pad_token_id, SHAPE, plan=plan, steps=rounds + 1, seed=SEEDS[0]).batches
    return interleaved(prefix_sides(base, batches, accumulation=1, dtype=dtype, suffixes=SUFFIXES), rounds=rounds)


def needed_steps(short: Mapping[str, Any], long: Mapping[str, Any], target: float) -> float | None:
    """Return the steps to a loss, interpolated along their logarithm; None where neither length reaches it.

    Where the shorter run is below the target already its own steps are returned, which are more than were needed.
    """
    if short["test"] <= target:
        return float(short["steps"])
    if long["test"] > target:
        return None
    share = (short["test"] - target) / (short["test"] - long["test"])
    return math.exp(math.log(short["steps"]) + share * math.log(long["steps"] / short["steps"]))


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Return mean and 95 % t-interval."""
    found = estimate(pd.Series(values))
    return {"value": found["mean"], **{key: found[key] for key in ("low", "high", "n")}}


def compared(
    name: str, standard: Mapping[int, Any], runs: Mapping[str, Any], seconds: Mapping[str, list[float]]
) -> Any:
    """Return what an arm in the last layers did against all layers: losses at each length, and seconds to the loss."""
    keeps, reads = seconds[f"{name}, {KEEPS}"], seconds[f"{name}, {READS}"]
    epoch = standard[SEEDS[0]]["steps"] // 3
    lengths = {}
    for length, by_seed in runs.items():
        later = by_seed[SEEDS[0]]["steps"] - epoch
        whole = [(epoch * keep + later * read) / (3 * epoch) for keep, read in zip(keeps, reads, strict=True)]
        lengths[length] = {
            "loss_minus_std": over_seeds([by_seed[seed]["test"] - standard[seed]["test"] for seed in SEEDS]),
            "time_std_over_arm": ratio(seconds[ALL], whole),
        }
    short, long = runs.values()
    needed = {seed: needed_steps(short[seed], long[seed], standard[seed]["test"]) for seed in SEEDS}
    step = {side: statistics.median(values) for side, values in ((ALL, seconds[ALL]), (KEEPS, keeps), (READS, reads))}
    faster = {
        seed: count and 3 * epoch * step[ALL] / (epoch * step[KEEPS] + (count - epoch) * step[READS])
        for seed, count in needed.items()
    }
    return {
        "plain": ratio(seconds[ALL], seconds[name]),
        "reads": ratio(seconds[ALL], reads),
        "lengths": lengths,
        "steps_to_std_loss": needed,
        "seconds_std_over_arm_to_std_loss": faster,
    }


def main() -> None:
    """Read, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the finished study")
    parser.add_argument("--rounds", type=int, default=12, help="rounds of the costs (default: %(default)s)")
    args = parser.parse_args()
    use_threads(1)
    seconds = costs(args.results, rounds=args.rounds)
    standard, arms = runs_of(args.results, "std"), {}
    for name in SUFFIXES:
        runs = {length: runs_of(args.results, name + end) for end, length in LENGTHS.items()}
        arms[name] = compared(name, standard, runs, seconds)
        print(name, json.dumps(arms[name], indent=1))
        arms[name]["runs"] = runs
    result = {"what": __doc__.splitlines()[0], "machine": machine.machine(), "std": standard, "arms": arms}
    result["trials"] = trials_of(args.results)
    (HERE / "prefix.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
