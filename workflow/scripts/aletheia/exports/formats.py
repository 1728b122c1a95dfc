"""The tools that a run's choice can be written for."""

from __future__ import annotations

from collections.abc import Callable

from aletheia.errors import UserError
from aletheia.exports.axolotl_export import axolotl_file
from aletheia.exports.choice import Choice
from aletheia.exports.llamafactory_export import llamafactory_file
from aletheia.exports.mlx_export import mlx_file
from aletheia.exports.peft_export import peft_file
from aletheia.exports.trl_export import trl_script, trl_yaml
from aletheia.exports.unsloth_export import unsloth_script

WRITERS: dict[str, Callable[[Choice], str]] = {
    "peft": peft_file,
    "trl": trl_script,
    "axolotl": axolotl_file,
    "llamafactory": llamafactory_file,
    "unsloth": unsloth_script,
    "mlx": mlx_file,
}


def exported(choice: Choice, tool: str, *, yaml: bool = False) -> str:
    """Return a run's choice as the configuration of a tool.

    Parameters
    ----------
    choice
        The run's (:func:`aletheia.exports.choice.read_choice`).
    tool
        One of :data:`WRITERS`.
    yaml
        For ``trl``: the file of ``trl sft`` in place of a script.

    Raises
    ------
    UserError
        When the tool is unknown or cannot express the choice; when there is no second format.
    """
    if tool not in WRITERS:
        raise UserError(f"--for {tool}: expected one of {', '.join(WRITERS)}")
    if not yaml:
        return WRITERS[tool](choice)
    if tool != "trl":
        raise UserError(
            f"--yaml: expected --for trl, which has a script and a YAML file; {tool} has one format: leave it out"
        )
    return trl_yaml(choice)
