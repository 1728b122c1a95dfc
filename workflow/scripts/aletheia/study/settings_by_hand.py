"""Settings that a script gets by hand (``--set``), checked against the schemas and each other."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import check_arm
from aletheia.study.length_checks import check_one_length
from aletheia.study.recipe_checks import check_ranks, check_training
from aletheia.study.run_length import with_one_length
from aletheia.study.schema import section_schema, validate


def check_settings(config: Mapping[str, dict[str, Any]], given: Mapping[str, Any]) -> None:
    """Refuse values that no campaign could have, and settings that contradict each other.

    Parameters
    ----------
    config
        By section: the schemas' defaults, and what was given over them. Epochs that were given take out the default
        steps here.
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
        check_arm(config.get("run", {}).get("arm", ""), arm, functools.partial(_error, "arm"))
    if "adapter" in given:
        check_ranks(given["adapter"], config["adapter"], functools.partial(_error, "adapter"))
    for section in [section for section in ("training", "batches") if section in given]:
        check_one_length(given[section], functools.partial(_error, section))
        config[section].update(with_one_length(given[section], config[section]))
    if "training" in given:
        check_training(given["training"], config["training"], functools.partial(_error, "training"))


def _error(*keys_and_sentence: str) -> UserError:
    *keys, sentence = keys_and_sentence
    return UserError(f"--set: {'.'.join(keys)}: {sentence}")
