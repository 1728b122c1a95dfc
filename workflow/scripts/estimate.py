"""Say what a study will cost and what it will be able to tell, before anything is submitted.

GPU-hours and core-hours by campaign and model, from the step times in the registry of models; what two campaigns share
counts in the first. On the safe side: each arm counts as the standard one, each answer with its full length.

By campaign and measure, from the spread and the margins that the plan of the analysis states: the smallest difference
that is found with the power wanted there, and the power to show that there is none.

Ends with status 0 within the budget (or without one), 1 beyond it, 2 where it cannot be told.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.audit.inventory import read_configuration
from aletheia.cluster.cost import Cost, estimate_costs
from aletheia.cluster.search_cost import estimate_searches
from aletheia.errors import UserError, run_main
from aletheia.staging.staged_rows import staged_train_rows
from aletheia.study.load import load_study
from aletheia.study.schema import trees

if TYPE_CHECKING:
    from aletheia.analysis.plan import Plan
    from aletheia.analysis.planned_power import PlannedPower

HEADINGS = ("campaign", "model", "GPUs", "trainings", "evaluations", "training h", "evaluation h", "GPU-h", "core-h")
POWER_HEADINGS = ("campaign", "arms", "measure", "models", "seeds", "questions", "detects", "within", "shown with")
PAPER = Path("config/paper.yaml")
PLAN = Path("config/analysis.yaml")
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
    parser.add_argument(
        "--power", action="store_true", help="say only what the study will be able to tell; needs no step times"
    )
    parser.add_argument("--analysis", type=Path, default=PLAN, help="the plan of the analysis (default: %(default)s)")
    args = parser.parse_args()
    from aletheia.analysis.plan import load_plan
    from aletheia.analysis.planned_power import planned_power

    # Whoever reads the table may stop early, as head does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if args.cores_per_gpu < 1:
        raise UserError(f"--cores-per-gpu: expected at least 1, found {args.cores_per_gpu}")
    if args.power and args.budget is not None:
        raise UserError("--power and --budget: expected one of them, found both; without --power the cost is estimated")
    config = read_configuration(args.configfile or [PAPER])
    rows = partial(staged_train_rows, Path(trees(config)[1]))
    study, plan = load_study(config, staged_rows=rows), load_plan(args.analysis)
    costs = None if args.power else estimate_costs(study) + estimate_searches(study)
    powers = planned_power(study, plan)
    if args.json:
        print(json.dumps(as_json(costs, powers, plan, args.cores_per_gpu), indent=1))
    else:
        if costs is not None:
            report(costs, args.cores_per_gpu)
            print()
        report_power(powers, plan)
    total = sum(cost.gpu_hours for cost in costs or [])
    if args.budget is not None and total > args.budget:
        print(f"over the budget: {total:.1f} GPU-hours, and {args.budget:g} are given", file=sys.stderr)
        raise SystemExit(1)


def as_json(costs: list[Cost] | None, powers: list[PlannedPower], plan: Plan, cores: int) -> dict[str, object]:
    """Return all that is printed, and the numbers behind it."""
    from aletheia.analysis.power_sentences import sentence

    told = [{**asdict(power), "sentence": sentence(power, plan.power.wanted)} for power in powers]
    power = {"wanted": plan.power.wanted, "assumed": asdict(plan.power.assumed), "rows": told}
    if costs is None:
        return {"power": power}
    rows = [{**asdict(cost), "gpu_hours": cost.gpu_hours} for cost in costs]
    total = sum(cost.gpu_hours for cost in costs)
    return {"rows": rows, "gpu_hours": total, "core_hours": total * cores, "power": power}


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
    print_table(lines, words=2)


def print_table(lines: Sequence[Sequence[str]], *, words: int) -> None:
    """Print lines of cells in columns; the first ``words`` columns are words, the others are set to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [f"{cell:<{width}}" for cell, width in zip(line[:words], widths[:words], strict=True)]
        padded += [f"{cell:>{width}}" for cell, width in zip(line[words:], widths[words:], strict=True)]
        print("  ".join(padded).rstrip())


def report_power(powers: list[PlannedPower], plan: Plan) -> None:
    """Print a row a campaign and measure, then what cannot be told, and on what the numbers rest."""
    from aletheia.analysis.power_sentences import amount, amounts, arms_in_words, assumptions, percents, sentence

    lines = [POWER_HEADINGS]
    for told in powers:
        power = detects = "-"
        if told.power is not None and told.detectable is not None:
            detects = amounts(told.detectable_at_best, told.detectable, told.unit)
            power = percents(told.power, told.power_at_best)
        counts = (str(told.models), str(told.seeds), f"{told.questions:,}" if told.questions else "-")
        margin = f"±{amount(told.margin, told.unit)}"
        lines.append((told.campaign, arms_in_words(told.arms), told.title, *counts, detects, margin, power))
    print_table(lines, words=3)
    print()
    for said in filter(None, (sentence(told, plan.power.wanted) for told in powers)):
        print(textwrap.fill(said, 120, subsequent_indent="  "))
    print(textwrap.fill(assumptions(plan), 120))


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
