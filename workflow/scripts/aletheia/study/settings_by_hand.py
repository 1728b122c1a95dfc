"""Settings that a script gets by hand (``--set``), checked against the schemas and each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import check_arm
from aletheia.study.recipe_checks import check_ranks, check_training
from aletheia.study.schema import section_schema, validate


def check_settings(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse values that no campaign could have, and settings that contradict each other.

    Parameters
    ----------
    config
        By section: the schemas' defaults, and what was given over them.
    given
        What was given alone.

    Raises
    ------
    UserError
        With the key, and what to write instead.
    """
    for section in given:
        node, root = section_schema(section)
        whole = {"$defs": root.get("$defs", {}), "type": "object", "properties": {section: node}}
        validate({section: config[section]}, whole, "--set")
    if "arm" in given:
        arm = {"layers": config["arm"]["layers"], **given["arm"]}
        check_arm(config.get("run", {}).get("arm", ""), arm, lambda *said: _error("arm", *said))
    if "adapter" in given:
        check_ranks(given["adapter"], config["adapter"], lambda *said: _error("adapter", *said))
    if "training" in given:
        check_training(given["training"], config["training"], lambda *said: _error("training", *said))


def _error(*said: str) -> UserError:
    return UserError(f"--set: {'.'.join(said[:-1])}: {said[-1]}")
