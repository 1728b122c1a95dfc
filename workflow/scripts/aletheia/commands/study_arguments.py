"""The arguments that fit, probe and select share: a model, rows, a folder, and what a run shall be."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.argument_types import named_column, positive_number, whole_number
from aletheia.errors import UserError

if TYPE_CHECKING:
    from aletheia.fit.options import Options
    from aletheia.fit.runner import Machine

PROFILES = "profiles"
BUILT_IN_EXECUTORS = ("local", "dryrun", "touch")


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a command."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="folder of a model, or its id on the hub")
    parser.add_argument("data", metavar="DATA", nargs="?", help="file of rows, or their id on the hub")
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="the study's folder; without MODEL and DATA it goes on there"
    )
    run = parser.add_argument_group("what a run is (else it follows from the rows, and is said)")
    run.add_argument("--search", choices=("none", "quick", "full"), help="how the learning rate is chosen (none)")
    run.add_argument("--epochs", type=positive_number, metavar="N", help="passes over the rows (1); also 0.5")
    run.add_argument("--time", metavar="T", help="in its place, what all trainings together may take: 90s, 10m, 1.5h")
    run.add_argument("--seeds", type=whole_number(1, 3), metavar="N", help="runs of each arm (1; 2 with a search)")
    run.add_argument("--arms", nargs="+", metavar="ARM", help="further choices of layers or modules, such as last_half")
    run.add_argument("--rate", type=positive_number, metavar="R", help="learning rate")
    run.add_argument("--max-tokens", type=whole_number(8), metavar="N", help="longest sequence in tokens")
    run.add_argument("--held-out", type=whole_number(1), metavar="N", help="rows that are not trained on")
    run.add_argument(
        "--columns",
        nargs="+",
        type=named_column,
        metavar="OURS=THEIRS",
        help="your names of columns: instruction=question output=answer",
    )
    run.add_argument(
        "--retention", metavar="FILE", help="table of general texts (text), or none (passages of Wikipedia, from PyPI)"
    )
    machine = parser.add_argument_group("where it runs")
    machine.add_argument("--profile", metavar="P", help="Snakemake profile of a cluster: a folder, or slurm, leonardo")
    machine.add_argument("--cores", type=whole_number(1), metavar="N", help="cores of this machine (all)")


def asked(args: argparse.Namespace) -> tuple[Options | None, Path, Machine]:
    """Return what is asked, the study's folder, and where it runs; no options where the folder has the study.

    Raises
    ------
    UserError
        For a model without data, options without either, or a profile that is not there.
    """
    from aletheia.fit.options import Options, seconds_of
    from aletheia.fit.runner import Machine

    machine = Machine(_profile(args.profile), args.cores)
    names = ("search", "epochs", "seeds", "rate", "max_tokens", "held_out", "retention", "arms", "columns")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    given |= {"seconds": seconds_of(args.time)} if args.time else {}
    if args.model is None:
        if given:
            raise UserError(
                f"--{next(iter(given)).replace('_', '-')}: expected MODEL and DATA beside it, found neither; a study "
                "that is there goes on as its files say: change it in its campaign.yaml"
            )
        return None, Path(args.out), machine
    if args.data is None:
        raise UserError("DATA: expected a file of rows after MODEL, found none")
    arms = (name for word in given.get("arms", ()) for name in word.split(",") if name)
    given |= {"arms": tuple(dict.fromkeys(arms))}
    given |= {"columns": tuple(given.get("columns", ()))}
    given |= {"retention": _absolute(given["retention"])} if "retention" in given else {}
    return Options(model=_absolute(args.model), data=_absolute(args.data), **given), Path(args.out), machine


def _absolute(path: str) -> str:
    """Return a path that leads to the same place from any folder; what is no path as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _profile(name: str | None) -> str | None:
    """Return a profile's folder: one that is there, or the project's of that name."""
    if name is None:
        return None
    from aletheia.provenance.lineage import ROOT

    folder = Path(name) if os.path.isdir(name) else ROOT / PROFILES / name
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in (ROOT / PROFILES).iterdir() if path.name != "default"))
        raise UserError(f"--profile: expected a folder, or one of {known}, found {name!r}")
    _check_executor(folder)
    return os.path.abspath(folder)


def _check_executor(profile: Path) -> None:
    """Refuse a profile whose executor is not installed: Snakemake would answer with its whole usage."""
    from aletheia.study.schema import read_yaml

    # Snakemake takes the first of these that is there.
    path = next(iter(sorted(profile.glob("config.v*+.yaml"), reverse=True)), profile / "config.yaml")
    executor = str(read_yaml(path).get("executor", "local"))
    module = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    if executor in BUILT_IN_EXECUTORS or importlib.util.find_spec(module) is not None:
        return
    how = f"pip install snakemake-executor-plugin-{executor}"
    if executor == "slurm":
        how = "pip install --constraint constraints.txt --editable '.[slurm]', in the project's folder"
    raise UserError(f"{path}: expected an executor that is installed, found {executor}; {how}")
