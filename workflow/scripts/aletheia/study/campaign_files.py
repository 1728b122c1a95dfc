"""The campaign files of a study: each read once, whole, under a name of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.recipe_files import with_recipe_files
from aletheia.study.rehearsal import without_rehearsed_keys
from aletheia.study.schema import at, check, merge, read_yaml, schema, with_defaults


def read_campaigns(paths: Iterable[str], rehearsed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the campaigns of a study.

    Parameters
    ----------
    paths
        Their files.
    rehearsed
        Settings that lie over those of each (:func:`aletheia.study.rehearsal.rehearsed_settings`).

    Returns
    -------
    list of dict
        Defaults filled in, but for ``overrides``, which merge over these and over a rehearsal; with ``path``,
        ``written`` (what the file says), ``rehearsed``, ``given`` (both), and ``states_batch_size``.

    Raises
    ------
    UserError
        For a mistake in a file, a file that is named twice, and a name that two campaigns have.
    """
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(os.path.realpath(path), path)
        if other is not path:
            raise UserError(f"config: campaigns: {other} and {path} are one file; name it once")
    campaigns = [_read(Path(path), rehearsed) for path in seen.values()]
    named: dict[str, str] = {}
    for campaign in campaigns:
        other = named.setdefault(campaign["name"], campaign["path"])
        if other is not campaign["path"]:
            where = at(Path(campaign["path"]), "name")
            raise UserError(f"{where}: two campaigns are named {campaign['name']!r}, this and {other}; rename one")
    return campaigns


def _read(path: Path, rehearsed: Mapping[str, Any]) -> dict[str, Any]:
    written = with_recipe_files(read_yaml(path), path)
    check(written, "campaign", path)
    given = merge(written, rehearsed)
    root = schema("campaign")
    filled = with_defaults({**given, "overrides": {}}, root, root)
    filled["arms"] = _each_draw(filled["arms"], path, "arms")
    filled["arms"] = {arm: without_rehearsed_keys(entry, rehearsed) for arm, entry in filled["arms"].items()}
    overrides = {model: _with_arms(entry, root, path, model) for model, entry in written.get("overrides", {}).items()}
    own = {"overrides": overrides, "states_batch_size": "batch_size" in given.get("training", {})}
    return {**filled, **own, "path": str(path), "written": written, "rehearsed": rehearsed, "given": given}


def _with_arms(override: Mapping[str, Any], root: Mapping[str, Any], path: Path, model: str) -> dict[str, Any]:
    """Return a model's override with its arms' defaults filled in; they replace the campaign's, the rest merges."""
    if "arms" not in override:
        return dict(override)
    whole = root["properties"]["arms"]
    arms = with_defaults(override["arms"], whole, root)
    return {**override, "arms": _each_draw(arms, path, "overrides", model, "arms")}


def _each_draw(arms: Mapping[str, Mapping[str, Any]], path: Path, *place: str) -> dict[str, Any]:
    """Return the arms of a campaign, or of a model, with one for each draw in place of an arm that states ``draws``.

    Raises
    ------
    UserError
        When such an arm's name is another arm's too.
    """
    each: dict[str, Any] = {}
    for arm, entry in arms.items():
        draws = entry.get("draws")
        width = max(2, len(str((draws or 1) - 1)))
        names = {arm: entry}
        if draws:
            one = {key: value for key, value in entry.items() if key != "draws"}
            names = {f"{arm}{draw:0{width}}": {**one, "draw": draw} for draw in range(draws)}
        for name in names:
            if name in each or (name != arm and name in arms):
                where = at(path, *place, arm, "draws")
                raise UserError(f"{where}: one of its arms is named {name}, as another; rename")
        each |= names
    return each
