"""recipe.yaml: what a search ends with, as an arm that a campaign can take."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

WIDTH = 118


def recipe_text(decision: Mapping[str, Any]) -> str:
    """Return recipe.yaml: the keys of an arm, and in comments how they were found and where a trained adapter is.

    Parameters
    ----------
    decision
        Payload of the artifact of that kind. Without a winner the arm is std at its own best rate; where no run of that
        ended well either, std as the campaign has it.
    """
    found, verdict = decision["recommended"], decision["decision"]
    said = [f"Found by a search on {decision['model']}. {verdict['reason']}"]
    if found is None:
        said.append("No confirming run ended well: this is std as the campaign has it.")
        return _comments(said) + "layers: all\n"
    if verdict["winner"] is None:
        said.append("There is no winner: this is std at its own best rate.")
    else:
        said.append(f"The recipe {found['recipe']}, as the cell {found['cell']!r} of the confirmation.")
    said.append(
        f"Its best seed is {found['seed']} (test loss {found['test_loss']:.4f}); that run's adapter, in "
        f"train/{decision['model']}/{found['arm']}/seed{found['seed']}/adapter beside search/, has these sha256:"
    )
    said += [f"  {name} {digest}" for name, digest in sorted(found["adapter"].items())]
    return _comments(said) + yaml.safe_dump(found["keys"], sort_keys=False, width=WIDTH)


def _comments(paragraphs: list[str]) -> str:
    lines = [line for each in paragraphs for line in ([each] if each.startswith(" ") else textwrap.wrap(each, WIDTH))]
    return "".join(f"# {line}\n" for line in lines)
