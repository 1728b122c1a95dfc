"""The arguments that every script shares: its lineage from a rule, or settings given by hand."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.argument_types import whole_number
from aletheia.errors import UserError
from aletheia.provenance import lineage
from aletheia.provenance.job import Step

SEED = whole_number(0, 2**32 - 1)
THREADS = whole_number(1)


class StepParser(argparse.ArgumentParser):
    """An argument parser whose result has ``step`` (what a job needs to know) and ``config`` (settings by section)."""

    def __init__(self, step: str, description: str | None, *, script: str, sections: Sequence[str]) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.step, self.script = step, script
        self.sections = tuple(sections)
        group = self.add_argument_group("settings")
        group.add_argument(
            "--lineage",
            nargs="*",
            default=[],
            metavar="FACT",
            help="what a rule passes: code:NAME=DIGEST, env:FILE=DIGEST, config:SECTION=JSON, inputs:declared=DIGEST",
        )
        group.add_argument("--attempt", type=int, default=1, help="which try of the job this is (default: %(default)s)")
        group.add_argument(
            "--set",
            nargs="*",
            action="extend",
            default=[],
            metavar="SECTION.KEY=VALUE",
            help="settings by hand, over the defaults, for example training.steps=100 adapter.rank=8"
            + (f"; sections of this step: {', '.join(sections)}" if sections else ""),
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        """Parse, and gather ``--lineage``, ``--set``, ``--attempt`` and ``--seed`` into ``step``."""
        parsed = super().parse_args(args, namespace)
        facts = lineage.parse_facts(parsed.lineage)
        parsed.config, parsed.declared_inputs = facts["config"], facts["inputs"].get("declared")
        by_hand = not parsed.lineage and bool(self.sections)
        if by_hand:
            # For calls by hand alone (lineage.NOT_DECISIVE): a rule passes every setting.
            from aletheia.study.schema import section_defaults

            parsed.config = {name: section_defaults(name) for name in self.sections}
        self._apply_settings(parsed, closed=by_hand)
        parsed.step = Step(
            name=self.step,
            script=self.script,
            config=parsed.config,
            environment=facts["env"],
            seed=getattr(parsed, "seed", None),
            attempt=parsed.attempt,
        )
        return parsed

    @staticmethod
    def _apply_settings(parsed: argparse.Namespace, *, closed: bool) -> None:
        """Apply the settings of ``--set`` on top of the present ones."""
        given: dict[str, Any] = {}
        names = [item.partition("=")[0] for item in parsed.set]
        for item in parsed.set:
            apply_setting(parsed.config, item, closed=closed)
            apply_setting(given, item)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"--set {twice}: given more than once; keep one")
        if closed and given:
            from aletheia.study.settings_by_hand import check_settings

            check_settings(parsed.config, given)


def apply_setting(config: dict[str, Any], item: str, *, closed: bool = False) -> None:
    """Set one ``section.key=value`` (the value is YAML) in ``config``.

    Parameters
    ----------
    config
        Settings by section, which the item changes.
    item
        As ``--set`` takes it.
    closed
        Whether ``config`` has every section that there is, so that an unknown section or key is a mistake.

    Raises
    ------
    UserError
        When the item has no ``=`` or no section, its value is no YAML, its section or key is unknown, or a value on
        the way to its key is no mapping.
    """
    name, equals, value = item.partition("=")
    keys = name.split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise UserError(f"--set {item}: expected SECTION.KEY=VALUE, for example training.steps=100")
    if closed:
        _expect_known(config, keys, item)
    target = config
    for depth, key in enumerate(keys[:-1], start=1):
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            place, whole = ".".join(keys[:depth]), f"{{{keys[depth]}: …}}"
            raise UserError(
                f"--set {item}: expected a mapping at {place}, found {target!r}; set it whole, {place}={whole}"
            )
    from aletheia.study.strict_yaml import MisreadError, parse

    try:
        target[keys[-1]] = parse(value)
    except MisreadError as error:
        raise UserError(f"--set {item}: {error.sentence}") from None


def _expect_known(config: Mapping[str, Any], keys: Sequence[str], item: str) -> None:
    """Refuse a section that the step does not read, and a key that is in neither its defaults nor a schema."""
    from aletheia.study.schema import section_keys
    from aletheia.study.schema_sentences import nearest

    node: Any = config
    for depth, key in enumerate(keys):
        known = [*node] if isinstance(node, Mapping) else []
        known += section_keys(keys[:depth]) if depth else []
        if known and key not in known:
            unknown = f"key {key!r} in {'.'.join(keys[:depth])}" if depth else f"section {key!r}"
            raise UserError(f"--set {item}: unknown {unknown}{nearest(key, list(dict.fromkeys(known)))}")
        node = node.get(key) if isinstance(node, Mapping) else None


def step_parser(step: str, description: str | None, *, script: str | Path, sections: Sequence[str] = ()) -> StepParser:
    """Return the parser of one script, and keep its process offline unless it stages.

    Parameters
    ----------
    step
        The step's one name ("probe"), kept in lineage.
    description
        The script's docstring, printed by ``--help``.
    script
        The script's own path (``__file__``): lineage digests its code.
    sections
        Sections of settings that the step reads; by hand they start from the schemas' defaults.
    """
    if step != "stage":
        # The Hugging Face libraries read it once, when they are imported.
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return StepParser(step, description, script=Path(script).name, sections=sections)


def evaluation_arguments(parser: argparse.ArgumentParser) -> tuple[Step, dict[str, Any], Path, int]:
    """Parse the arguments of a step that evaluates (``evaluate`` or ``generate``).

    Returns
    -------
    tuple
        The step; input paths by the fields of :class:`aletheia.evaluation.evaluated_run.EvaluationInputs`; the output
        folder; threads for torch.
    """
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--run", type=Path, nargs="?", help="run.json to evaluate; the base model without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock of the data with held-out rows")
    parser.add_argument("--questions", type=Path, nargs="*", default=[], help="locks of the question sets")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--outputs", type=Path, nargs="+", required=True, help="files to write; their folder decides")
    parsed = parser.parse_args()
    tasks = lineage.task_files(parsed.config["evaluation"]["benchmarks"])
    step = dataclasses.replace(parsed.step, extra_code=tuple(tasks))
    inputs = {name: getattr(parsed, name) for name in ("model_lock", "data_lock", "questions", "run", "precision")}
    return step, inputs, parsed.outputs[0].parent, parsed.threads
