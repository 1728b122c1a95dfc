"""What someone asks of ``aletheia fit``, and what contradicts itself in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from aletheia.errors import UserError
from aletheia.search.presets import PRESETS
from aletheia.study.schema import schema
from aletheia.study.schema_sentences import nearest

SEARCHES = ("none", "quick", "full")
NO_RETENTION = "none"
SEEDS = (42, 123, 999)
# Presets that are the study's own two arms.
TAKEN = {"gradient_half": "ale", "std": "std", "ale": "ale"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz")  # of files of rows; no id on the hub ends so
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Options:
    """The arguments, with paths made absolute.

    Attributes
    ----------
    model, data
        A folder or an id on the hub; a file or an id on the hub.
    search
        One of :data:`SEARCHES`: a fixed rate, each arm's best of three, or a search for a recipe.
    epochs, seconds
        How long a run is, or how long all trainings together may take; at most one of both.
    seeds
        Number of runs of each arm; None for what goes with ``search``.
    arms
        Names of search presets, as arms beside ``std`` and ``ale``.
    rate, max_tokens, held_out
        In the place of what would be chosen.
    retention
        File of passages of general text; ``none`` asks no such benchmark; None takes the study's own.
    columns
        Pairs of our name of a column and the rows' own, where they are called otherwise.
    """

    model: str
    data: str
    search: str = "none"
    epochs: float | None = None
    seconds: float | None = None
    seeds: int | None = None
    arms: tuple[str, ...] = field(default=())
    rate: float | None = None
    max_tokens: int | None = None
    held_out: int | None = None
    retention: str | None = None
    columns: tuple[tuple[str, str], ...] = field(default=())

    @property
    def run_seeds(self) -> tuple[int, ...]:
        """The seeds of each arm; quick needs two, so that the noise of a seed is known."""
        return SEEDS[: self.seeds or (1 if self.search == "none" else 2)]


def checked(options: Options) -> Options:
    """Return the options after checking them against each other and against the disk.

    Raises
    ------
    UserError
        For two lengths, a rate beside a search, an unknown arm or column, a model or data that are not there.
    """
    if options.epochs is not None and options.seconds is not None:
        raise UserError("--epochs and --time: expected one of both, since each says how long a run is; leave one out")
    if options.rate is not None and options.search != "none":
        raise UserError(
            f"--rate: expected none beside --search {options.search}, which chooses the rate; leave one out"
        )
    if options.seconds is not None and options.search == "full":
        raise UserError(
            "--time: expected --search none or quick beside it, found full, whose trials follow from its results; name "
            "--epochs"
        )
    for name in options.arms:
        _check_arm(name)
    _check_columns([ours for ours, _ in options.columns])
    _check_model(options.model)
    if not _hub_id(options.data) or Path(options.data).exists():
        _check_file(options.data, "DATA", "a file of rows (JSONL, JSON, CSV, TSV or Parquet), or an id on the hub")
    if options.retention not in (None, NO_RETENTION):
        _check_file(options.retention, "--retention", "a file of passages, or the word none")
    return options


def seconds_of(text: str) -> float:
    """Return the seconds that a text such as ``90s``, ``10m`` or ``1.5h`` stands for.

    Raises
    ------
    UserError
        For any other text.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise UserError(f"--time: expected a time such as 90s, 10m or 1.5h, found {text!r}")
    return float(found[1]) * UNITS[found[2]]


def _check_arm(name: str) -> None:
    if name in TAKEN:
        raise UserError(f"--arms: {name} is part of every such study (as {TAKEN[name]}); leave it out")
    if name not in PRESETS:
        known = [preset for preset in PRESETS if preset not in TAKEN]
        raise UserError(f"--arms: expected presets of a search, found {name!r}{nearest(name, known)}")


def _check_columns(ours: list[str]) -> None:
    known = list(schema("data")["additionalProperties"]["properties"]["source"]["properties"]["columns"]["properties"])
    for name in ours:
        if name not in known:
            raise UserError(
                f"--columns: expected our name of a column before the sign =, found {name!r}{nearest(name, known)}"
            )
        if ours.count(name) > 1:
            raise UserError(f"--columns: expected {name} once, found it {ours.count(name)} times; leave one out")


def _check_model(model: str) -> None:
    folder = Path(model)
    if not folder.exists():
        if _hub_id(model):
            return
        raise UserError(
            f"MODEL: expected a folder or an id on the hub (OWNER/NAME), found nothing at {model}; check the path"
        )
    if not folder.is_dir():
        raise UserError(
            f"MODEL: expected a folder (weights, config.json, tokenizer), found the file {model}; name its folder"
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"MODEL: expected a folder with a model, found no config.json in {model}; name the folder that has it"
        )


def _hub_id(place: str) -> bool:
    """Tell whether a text is an id on the hub, and no path with a mistake: into a folder that is here, or to a file."""
    path = Path(place)
    return bool(HUB_ID.fullmatch(place)) and not path.parent.is_dir() and path.suffix.lower() not in SUFFIXES


def _check_file(path: str, what: str, wanted: str) -> None:
    if not Path(path).is_file():
        kind = "the folder" if Path(path).is_dir() else "nothing at"
        raise UserError(f"{what}: expected {wanted}, found {kind} {path}; check the path")
