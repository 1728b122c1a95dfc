"""Run the speed comparisons, each a ratio measured side by side in one process, and write what they gave.

    benchmarks/run.py                 all of them
    benchmarks/run.py training        one
    benchmarks/run.py evaluation --parts judging loads      some parts of one, into a file of their own
    benchmarks/run.py step --parts fp32                     a step in one precision

Both sides work on the same inputs and take turns, so that a busy moment meets both. The interval of a ratio is the
bootstrap over rounds of the study's own measurements in turns (aletheia.timing.rounds).
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "workflow" / "scripts"), str(HERE)]

from aletheia.provenance import machine  # noqa: E402

CASES = ("training", "scale", "probe")
# Evaluation takes an hour, and files that ALETHEIA_TEST_DATA names; has parts. Start takes a quarter of one, and the
# history of this repository.
BY_NAME = ("evaluation", "start", "step", "elementwise")
IN_PARTS = ("evaluation", "step")


def interleaved(sides: dict[str, Callable[[], float]], *, rounds: int, fill: bool = True) -> dict[str, list[float]]:
    """Return each side's seconds, round by round; a first round fills caches and is left out, unless ``fill`` is False.

    Every other round takes the sides in the opposite order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + fill):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            elapsed = sides[name]()
            if number >= fill:
                seconds[name].append(elapsed)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """Return the ratio of medians with its 95 % bootstrap interval over rounds."""
    import numpy as np

    from aletheia.timing.rounds import interval, resampled_rounds

    pairs = np.array([numerator, denominator])
    above, below = np.median(pairs[:, resampled_rounds(len(numerator))], axis=2)
    found = interval(statistics.median(numerator) / statistics.median(denominator), above / below)
    return {"ratio": found.pop("value"), **found, "rounds": len(numerator)}


def main() -> None:
    """Run the cases named and write one JSON file each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases", nargs="*", help=f"which comparisons: {', '.join(CASES)} when absent; {', '.join(BY_NAME)}"
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds after the first")
    parser.add_argument("--parts", nargs="+", default=[], help=f"of {' or '.join(IN_PARTS)}: which of its parts")
    args = parser.parse_args()
    unknown = [name for name in args.cases if name not in (*CASES, *BY_NAME)]
    if unknown:
        parser.error(f"unknown comparison {unknown[0]!r}: expected one of {', '.join((*CASES, *BY_NAME))}")
    chosen: dict[str, list[str]] = {}
    if args.parts:
        found = " ".join(sys.argv[1:])
        if len(args.cases) != 1 or args.cases[0] not in IN_PARTS:
            parser.error(f"--parts: expected one of {', '.join(IN_PARTS)} before it, found `{found}`")
        parts = importlib.import_module(f"bench_{args.cases[0]}").PARTS
        if not set(args.parts) <= set(parts):
            parser.error(f"--parts: expected some of {', '.join(parts)}, found `{found}`")
        chosen = {"parts": args.parts}
    for name in args.cases or CASES:
        measured = importlib.import_module(f"bench_{name}").measure(interleaved, ratio, rounds=args.rounds, **chosen)
        result = {"machine": machine.machine(), **measured}
        path = HERE / f"{'-'.join([name, *args.parts])}.json"
        path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{path}\n{json.dumps(measured['ratios'] or measured, indent=1)}")


if __name__ == "__main__":
    main()
