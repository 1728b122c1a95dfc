"""Arms that take their keys from a file, such as the recipe that a search ends with (``recipe: FILE``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.run_length import EPOCHS, STEPS
from aletheia.study.schema import at, read_yaml

RECIPE = "recipe"


def with_recipe_files(campaign: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a campaign in which each arm that names a recipe's file has that file's keys under its own.

    Parameters
    ----------
    campaign
        As its file says, not checked yet.
    path
        That file.

    Raises
    ------
    UserError
        For a file that is missing, or holds no arm.
    """
    whole = _with_arms(campaign, path)
    overrides = whole.get("overrides")
    if isinstance(overrides, Mapping):
        whole["overrides"] = {
            model: _with_arms(override, path, "overrides", model) if isinstance(override, Mapping) else override
            for model, override in overrides.items()
        }
    return whole


def _with_arms(holder: Mapping[str, Any], path: Path, *place: str) -> dict[str, Any]:
    arms = holder.get("arms")
    if not isinstance(arms, Mapping):
        return dict(holder)
    return {**holder, "arms": {name: _arm(entry, path, *place, "arms", name) for name, entry in arms.items()}}


def _arm(entry: Any, path: Path, *place: str) -> Any:
    if not isinstance(entry, Mapping) or RECIPE not in entry:
        return entry
    file = entry[RECIPE]
    if not isinstance(file, str) or not file:
        raise UserError(f"{at(path, *place, RECIPE)}: expected the path of a file with an arm's keys, found {file!r}")
    keys = read_yaml(Path(file))
    if "layers" not in keys or RECIPE in keys:
        raise UserError(
            f"{at(path, *place, RECIPE)}: expected a file with the keys of one arm, layers among them, found {file}; "
            "name the recipe.yaml of a search"
        )
    own = {key: value for key, value in entry.items() if key != RECIPE}
    # Of steps and epochs the one that was stated last holds.
    replaced = {STEPS: EPOCHS, EPOCHS: STEPS}
    return {key: value for key, value in keys.items() if replaced.get(key) not in own} | own
