"""The folder of a study: its files are written once, taken up as they are, and never overwritten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aletheia.errors import UserError
from aletheia.fit.study_files import CONFIG, FILES
from aletheia.provenance.atomic_write import atomic_path


def expect_study(folder: Path) -> None:
    """Refuse a folder without a study to go on with.

    Raises
    ------
    UserError
        When there is no configuration.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"--out {folder}: expected a folder that `aletheia fit` made, found no {CONFIG} in it; name MODEL and DATA "
            "to begin one there"
        )


def expect_room(folder: Path) -> None:
    """Refuse a folder that holds something else than a study.

    Raises
    ------
    UserError
        When it is a file, or has files and none of a study.
    """
    if any((folder / name).exists() for name in FILES):
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "other files" if folder.is_dir() else "a file"
        raise UserError(f"--out {folder}: expected a new or an empty folder, found {what}; name another folder")


def write_or_take_up(folder: Path, files: Mapping[str, str]) -> bool:
    """Write a study's files, or find the same ones there; return whether they were there.

    Parameters
    ----------
    folder
        A new or empty one, or one with a study.
    files
        ``{name: text}``, in the order in which they are written.

    Raises
    ------
    UserError
        When the folder holds something else, or files of another text, which stay as they are.
    """
    expect_room(folder)
    there = {name: folder / name for name in FILES if (folder / name).exists()}
    for name, path in there.items():
        if name not in files or path.read_text(encoding="utf-8") != files[name]:
            raise UserError(
                f"{path}: expected the file that these arguments write, found another (edited, or written with other "
                f"arguments); `aletheia fit --out {folder}` goes on with what stands there, or name another folder"
                f"{'' if _has_trained(folder) else ' or remove this one, in which nothing was trained yet'}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if name not in there:
            with atomic_path(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return CONFIG in there


def _has_trained(folder: Path) -> bool:
    """Tell whether a run of the study has ended."""
    return any(folder.glob("results*/train/*/*/*/run.json"))
