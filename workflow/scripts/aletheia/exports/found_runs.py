"""Which run of a study is meant: its run.json, found in the folder of a study, of its results, or of an adapter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import Artifact

ADAPTER, WEIGHTS, RUN = "adapter", "adapter_model.safetensors", "run.json"
SEED = "seed"
MOST_NAMED = 12  # runs that a sentence lists


@dataclass(frozen=True)
class FoundRun:
    """A run of a study, by its place in the tree of results.

    Attributes
    ----------
    model, arm, seed
        As the study names them.
    path
        Its ``run.json``.
    """

    model: str
    arm: str
    seed: int
    path: Path

    def __str__(self) -> str:
        return f"--model {self.model} --arm {self.arm} --seed {self.seed}"


def find_run(folder: Path, *, model: str | None = None, arm: str | None = None, seed: int | None = None) -> Artifact:
    """Return the one run that is meant.

    Parameters
    ----------
    folder
        A study's folder (with ``results``), a folder of results (with ``train``), one of a single run, or of an adapter
        that one of these holds. In the folder of ``aletheia fit`` it is, unless named, the run of ``adapter``.
    model, arm, seed
        Which, where there are several; None for any.

    Returns
    -------
    Artifact
        Its ``run.json``, checked; the run ended with an adapter.

    Raises
    ------
    UserError
        When there is none, or more than one; when the run failed.
    """
    runs = runs_below(folder)
    asked = {"model": model, "arm": arm, "seed": seed}
    meant = [run for run in runs if all(value in (None, getattr(run, key)) for key, value in asked.items())]
    if len(meant) > 1 and (own := _run_of_adapter(folder / ADAPTER, meant)):
        meant = [own]
    named = " ".join(f"--{key} {value}" for key, value in asked.items() if value is not None)
    if len(meant) != 1:
        found = f"{len(meant)} of them" if meant else "none"
        asked_for = f"one run with {named}" if named else "one run"
        raise UserError(f"{folder}: expected {asked_for}, found {found}; name one of {_listed(meant or runs)}")
    artifact = artifacts.read_artifact(meant[0].path, "run")
    if artifact.payload["status"] != "ok":
        raise UserError(
            f"{artifact.path}: expected a run that ended with an adapter, found one that ended as "
            f"{artifact.payload['status']} ({artifact.payload['reason']}); name another one"
        )
    return artifact


def runs_below(folder: Path) -> list[FoundRun]:
    """Return the runs of a folder, in the order of their names.

    Raises
    ------
    UserError
        When there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder of a study, found none here; name one that has results/train")
    if (folder / WEIGHTS).is_file():
        return [_of_adapter(folder)]
    if (folder / RUN).is_file():
        return [_alone(folder / RUN)]
    trees = (folder / "results" / "train", folder / "train")
    paths = [path for tree in trees for path in tree.glob(f"*/*/{SEED}[0-9]*/{RUN}")]
    if not paths:
        raise UserError(
            f"{folder}: expected a study with finished runs (results/train/MODEL/ARM/seedN/run.json), found none; name "
            "the folder of a study, of its results, or of an adapter"
        )
    return sorted(map(_run, paths), key=lambda run: (run.model, run.arm, run.seed))


def adapter_folder(run: Path) -> Path:
    """Return the folder of a run's adapter: beside its ``run.json``.

    Raises
    ------
    UserError
        When it is gone.
    """
    folder = Path(run).with_name(ADAPTER)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder}: expected the run's adapter ({WEIGHTS}), found none; run the training again")
    return folder


def _run(path: Path) -> FoundRun:
    """Return a run by its place, since reading each run of a large study takes long."""
    place = path.parent
    return FoundRun(place.parent.parent.name, place.parent.name, int(place.name.removeprefix(SEED)), path)


def _alone(path: Path) -> FoundRun:
    """Return a run that may stand anywhere, as one that was made by hand."""
    payload = artifacts.payload(path, "run")
    return FoundRun(payload["model"], payload["arm"], payload["seed"], path)


def _of_adapter(folder: Path) -> FoundRun:
    """Return the run that an adapter is of: the one beside it, or of the study that it was copied from."""
    if folder.with_name(RUN).is_file():
        return _alone(folder.with_name(RUN))
    parent = folder.resolve().parent
    if (parent / "results" / "train").is_dir() and (own := _run_of_adapter(folder, runs_below(parent))):
        return own
    raise UserError(
        f"{folder}: expected its run.json beside it, or the study that it came from around it, found neither; name the "
        "folder of the study"
    )


def _run_of_adapter(folder: Path, runs: Iterable[FoundRun]) -> FoundRun | None:
    """Return the one run whose adapter has the weights of a folder; None where there is no such folder or run."""
    if not (folder / WEIGHTS).is_file():
        return None
    sha256 = artifacts.sha256_file(folder / WEIGHTS)
    own = [run for run in runs if artifacts.payload(run.path, "run")["adapter"]["files"].get(WEIGHTS) == sha256]
    return own[0] if len(own) == 1 else None


def _listed(runs: list[FoundRun]) -> str:
    shown = " · ".join(map(str, runs[:MOST_NAMED]))
    return shown + (f" · and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else "")
