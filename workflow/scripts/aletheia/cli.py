"""The arguments that every script shares: its lineage from a rule, or settings given by hand."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from typing import Any

import yaml

from aletheia import lineage
from aletheia.errors import UserError


class StepParser(argparse.ArgumentParser):
    """An argument parser whose result carries ``config`` (a dict for each section), ``env`` and ``step``."""

    def __init__(self, step: str, description: str | None, extra_code: Sequence[str], sections: Sequence[str]) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.step = step
        self.extra_code = tuple(extra_code)
        self.sections = tuple(sections)
        group = self.add_argument_group("settings")
        group.add_argument(
            "--lineage",
            nargs="*",
            default=[],
            metavar="TOKEN",
            help="what a rule passes: code:NAME=DIGEST, env:FILE=DIGEST, config:SECTION=JSON",
        )
        group.add_argument("--attempt", type=int, default=1, help="which try of the job this is (default: %(default)s)")
        group.add_argument(
            "--set",
            nargs="*",
            default=[],
            metavar="SECTION.KEY=VALUE",
            help="settings by hand, over the defaults, for example training.steps=100 adapter.rank=8"
            + (f"; sections of this step: {', '.join(sections)}" if sections else ""),
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        """Parse, and gather ``--lineage`` and ``--set`` into ``config`` and ``env``."""
        parsed = super().parse_args(args, namespace)
        tokens = lineage.parse_tokens(parsed.lineage)
        parsed.config, parsed.env = tokens["config"], tokens["env"]
        parsed.step, parsed.extra_code = self.step, self.extra_code
        if not parsed.lineage and self.sections:
            # Only by hand. Imported by name, so that a rule's run, which brings every setting, does not depend on it.
            config = importlib.import_module("aletheia.config")
            parsed.config = {name: config.section_defaults(name) for name in self.sections}
        for item in parsed.set:
            apply_setting(parsed.config, item)
        return parsed


def apply_setting(config: dict[str, Any], item: str) -> None:
    """Put one ``section.key=value`` (the value is YAML) into ``config``.

    Raises
    ------
    UserError
        When the item has no ``=`` or no section.
    """
    name, found, value = item.partition("=")
    keys = name.split(".")
    if not found or len(keys) < 2 or not all(keys):
        raise UserError(f"--set {item}: expected SECTION.KEY=VALUE, for example training.steps=100")
    target = config
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = yaml.safe_load(value)


def step_parser(
    step: str, description: str | None, extra_code: Sequence[str] = (), sections: Sequence[str] = ()
) -> StepParser:
    """Return the parser of one script, and keep its process offline unless it stages.

    Parameters
    ----------
    step
        The step's one name ("probe"), kept in lineage.
    description
        The script's docstring, printed by ``--help``.
    extra_code
        Files beside Python modules that decide the result (paths relative to the project).
    sections
        Sections of settings that the step reads; by hand they start from the schemas' defaults.
    """
    if step != "stage":
        # The Hugging Face libraries read it once, when they are imported.
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return StepParser(step, description, extra_code, sections)
