"""Write what recipe searches found to search.json, by data set.

    benchmarks/search.py docstrings=results-search instructions=results-search-instructions

Each is the folder of results of a search that ended. A data set that is not named keeps what search.json has of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from run import HERE

from aletheia.provenance import artifacts

RUNGS = ("floor", "cost", "scan", "full", "push", "factorial", "decision")
COLUMNS = ("rung", "recipe", "rate", "seed", "status", "steps", "loss", "test_loss", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("searches", nargs="+", metavar="NAME=FOLDER", help="a data set and the results of its search")
    out = HERE / "search.json"
    known = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    for given in parser.parse_args().searches:
        name, folder = given.split("=", maxsplit=1)
        (decision,) = Path(folder, "search").glob("*/decision.json")
        known[name] = summary({rung: artifacts.read(decision.parent / f"{rung}.json", rung) for rung in RUNGS})
    out.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, found in sorted(known.items()):
        print(name, json.dumps(found["ratios"]), found["reason"])


def summary(rungs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what one search found, from its artifacts."""
    told = {rung: artifact["payload"] for rung, artifact in rungs.items()}
    decision = told["decision"]
    keys = ("value", "low", "high", "n", "extrapolated")
    machine = {each["observed"]["device"] for each in rungs.values()}
    return {
        "ratios": {name: {key: ratio[key] for key in keys} for name, ratio in decision["ratios"].items()},
        "reason": decision["decision"]["reason"],
        "winner": decision["decision"]["winner"],
        "recommended": decision["recommended"] and decision["recommended"]["keys"],
        "cells": [{key: cell[key] for key in ("name", "recipe", "rate")} for cell in told["push"]["cells"]],
        "effects": told["factorial"]["effects"],
        "comparisons": decision["decision"]["comparisons"],
        "floor": told["floor"]["floor"],
        "base_loss": told["floor"]["base_loss"],
        "costs": {name: each["cost"] for name, each in told["cost"]["costs"].items()},
        "costs_again": {name: each["cost"] for name, each in told["factorial"]["costs"].items()},
        "std_seconds": told["cost"]["std_seconds"],
        "spent": decision["spent"],
        "confirmation_seconds": decision["confirmation_seconds"],
        "repaid_after_runs": decision["repaid_after_runs"],
        "cpu": sorted(filter(None, machine)),
        "rows": [{key: row[key] for key in COLUMNS} for each in told.values() for row in each["rows"]],
    }


if __name__ == "__main__":
    main()
