"""Say what a study will cost: GPU-hours and core-hours by campaign and model, before anything is submitted.

From the step times in the registry of models; what two campaigns share counts in the first. On the safe side: each arm
counts as the standard one, each answer with its full length.

Ends with status 0 within the budget (or without one), 1 beyond it, 2 where it cannot be told.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from aletheia.audit.inventory import read_configuration
from aletheia.cluster.cost import Cost, estimate_costs
from aletheia.errors import UserError, run_main
from aletheia.study.load import load_study

HEADINGS = ("campaign", "model", "GPUs", "trainings", "evaluations", "training h", "evaluation h", "GPU-h", "core-h")
PAPER = Path("config/paper.yaml")
# A quarter of a Booster node of Leonardo: 8 of its 32 cores are billed with each of its 4 GPUs.
CORES = 8


def main() -> None:
    """Estimate, print the table, hold it against the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--configfile", type=Path, nargs="+", action="extend", default=[], help=f"as given to snakemake; else {PAPER}"
    )
    parser.add_argument("--budget", type=hours, help="GPU-hours that the study may take")
    parser.add_argument(
        "--cores-per-gpu", type=int, default=CORES, help="cores billed with each GPU (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    args = parser.parse_args()
    # Whoever reads the table may stop early, as head does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if args.cores_per_gpu < 1:
        raise UserError(f"--cores-per-gpu: expected at least 1, found {args.cores_per_gpu}")
    costs = estimate_costs(load_study(read_configuration(args.configfile or [PAPER])))
    total = sum(cost.gpu_hours for cost in costs)
    if args.json:
        rows = [{**asdict(cost), "gpu_hours": cost.gpu_hours} for cost in costs]
        print(json.dumps({"rows": rows, "gpu_hours": total, "core_hours": total * args.cores_per_gpu}, indent=1))
    else:
        report(costs, args.cores_per_gpu)
    if args.budget is not None and total > args.budget:
        print(f"over the budget: {total:.1f} GPU-hours, and {args.budget:g} are given", file=sys.stderr)
        raise SystemExit(1)


def hours(text: str) -> float:
    """Return a number of hours that can be a budget."""
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"expected hours of at least 0, found {text}")
    return value


def report(costs: list[Cost], cores: int) -> None:
    """Print a row a campaign and model, a sum a campaign, and a sum of all."""
    lines = [HEADINGS]
    for campaign in dict.fromkeys(cost.campaign for cost in costs):
        own = [cost for cost in costs if cost.campaign == campaign]
        lines += [cells(cost.campaign, cost.model, str(cost.gpus), [cost], cores) for cost in own]
        lines.append(cells(campaign, "all", "", own, cores))
    lines.append(cells("all", "all", "", costs, cores))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        words = [f"{cell:<{width}}" for cell, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [f"{cell:>{width}}" for cell, width in zip(line[2:], widths[2:], strict=True)]
        print("  ".join([*words, *numbers]))


def cells(campaign: str, model: str, gpus: str, costs: list[Cost], cores: int) -> tuple[str, ...]:
    """Return the cells of one line, which sums costs."""
    counts = (sum(cost.trainings for cost in costs), sum(cost.evaluations for cost in costs))
    training = sum(cost.training_seconds for cost in costs) / 3600
    evaluation = sum(cost.evaluation_seconds for cost in costs) / 3600
    gpu_hours = sum(cost.gpu_hours for cost in costs)
    times = (training, evaluation, gpu_hours, gpu_hours * cores)
    return (campaign, model, gpus, *map(str, counts), *(f"{value:.1f}" for value in times))


if __name__ == "__main__":
    run_main(main)
