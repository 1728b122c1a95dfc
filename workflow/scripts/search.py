"""Decide one rung of a recipe search: the noise floor, costs, scan, full runs, push, factorial, or the decision.

The settings section `search` has what a campaign declares, and the model's settings of adapters and training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job

if TYPE_CHECKING:
    import argparse

    from aletheia.analysis.search_decisions import Declared

RUNGS = ("floor", "cost", "scan", "full", "push", "factorial", "decision")


def parse() -> argparse.Namespace:
    """Return the arguments of the call."""
    parser = step_parser("search", __doc__, script=__file__)
    parser.add_argument("--rung", choices=RUNGS, required=True, help="what is decided")
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="artifacts of earlier rungs, as RUNG.json")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run.json of the rung's trials")
    parser.add_argument("--turns", type=Path, nargs="*", default=[], help="recipes timed in turns with std")
    parser.add_argument("--evaluations", type=Path, nargs="*", default=[], help="of the trials, and of the base model")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    return parser.parse_args()


def declared(section: Any) -> Declared:
    """Return the search that the settings declare."""
    from aletheia.analysis.search_decisions import Declared
    from aletheia.search import trials
    from aletheia.search.presets import PRESETS
    from aletheia.search.section import read_space

    if not isinstance(section, dict) or {*section} != {"model", "section", "adapter", "training"}:
        expected = "the settings section search (model, section, adapter, training)"
        raise UserError(f"search: expected {expected}, found {section or 'none'}; see --help")
    settings = {key: section[key] for key in ("adapter", "training")}
    # What a campaign states was checked when it was read.
    stated = (*PRESETS.values(), *section["section"]["recipes"].values(), section["section"]["std"]["extras"])
    legal = {key for keys in stated for key in keys}
    found = read_space(section["section"], settings=settings, legal_keys=legal, say=_error)
    return Declared(section["model"], found, trials.declared(found))


def _error(*keys_and_sentence: object) -> UserError:
    *keys, sentence = map(str, keys_and_sentence)
    return UserError(f"search: {'.'.join(keys)}: {sentence}")


def main() -> None:
    args = parse()
    inputs = [*args.before, *args.runs, *args.turns, *args.evaluations]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.analysis import search_confirmation, search_decisions
        from aletheia.analysis.search_rows import Evidence

        start.work_begins()
        evidence = Evidence(
            before={path.stem: job.input(path, path.stem).payload for path in args.before},
            runs=[job.input(path, "run").payload for path in args.runs],
            turns=[job.input(path, "paired").payload for path in args.turns],
            evaluations=[job.input(path, "evaluation").payload for path in args.evaluations],
        )
        decide = {**search_decisions.RUNGS, **search_confirmation.RUNGS}[args.rung]
        payload = decide(declared(args.config.get("search")), evidence)
        print(f"search of {payload['model']}: {args.rung} decided, {len(payload['asked'])} runs asked")
        job.write_json(args.out, kind=args.rung, payload=payload)


if __name__ == "__main__":
    run_main(main)
