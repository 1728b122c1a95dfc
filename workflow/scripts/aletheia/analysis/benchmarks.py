"""What is said of each benchmark: its title, what guessing scores, its columns of the ledger.

What is asked stands in :mod:`aletheia.study.benchmarks`. Nothing that evaluates imports this module, so that another
title reruns no evaluation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aletheia.study.benchmarks import BENCHMARKS, CHOICES, LOSSES, QUESTION_BENCHMARKS


@dataclass(frozen=True)
class Said:
    """What is said of one benchmark.

    Attributes
    ----------
    title
        Its name in tables, analyses and figures.
    chance
        The share of questions that guessing answers: 0 where an answer of one's own is wanted.
    stem
        How its columns of the ledger begin, where that is not its own name.
    in_every_ledger
        Whether a ledger has its columns although no campaign asks it, as those of the paper's benchmarks are. The
        columns of others follow at the ledger's end where a campaign asks them.
    in_master
        Whether it stands in RESULTS_MASTER.csv, the pairs that report speed; the paper's has MMLU alone.
    """

    title: str
    chance: float = 0.0
    stem: str | None = None
    in_every_ledger: bool = False
    in_master: bool = False


SAID = {
    "heldout": Said("held-out loss", stem="heldout_loss", in_every_ledger=True),
    "mmlu": Said("MMLU", chance=0.25, in_every_ledger=True, in_master=True),
    "gsm8k": Said("GSM8K", in_every_ledger=True),
    "humaneval": Said("HumanEval", in_every_ledger=True),
    "piqa": Said("PIQA", chance=0.5),
    "openbookqa": Said("OpenBookQA", chance=0.25),
    "retention": Said("retention loss", stem="retention_loss"),
}
TITLES = {name: said.title for name, said in SAID.items()}
IN_EVERY_LEDGER = tuple(name for name in BENCHMARKS if SAID[name].in_every_ledger)


def stem_of(benchmark: str) -> str:
    """Return the name of a benchmark's score, or loss, in the ledger."""
    return SAID[benchmark].stem or benchmark


def ledger_columns(benchmark: str) -> dict[str, str]:
    """Return ``{column: pandas type}`` of a benchmark in the ledger: of the base model, of the run, n and status."""
    stem = stem_of(benchmark)
    return {
        f"{stem}_base": "float64",
        stem: "float64",
        f"{benchmark}_n": "Int64",
        f"{benchmark}_status": "str",
    }


def answer_columns(benchmark: str) -> dict[str, str]:
    """Return ``{column: pandas type}`` of what else a ledger has of a benchmark's answers, where evaluations note it.

    Of choices the mean probability of the right one, of the base model and of the run; of all answers what is
    degenerate, of the run and of the base model. Evaluations of earlier versions noted neither.
    """
    likely = (f"{benchmark}_probability_base", f"{benchmark}_probability")
    degenerate = (f"{benchmark}_degenerate", f"{benchmark}_base_degenerate")
    return {
        **dict.fromkeys(likely if BENCHMARKS[benchmark].kind == CHOICES else (), "float64"),
        **dict.fromkeys(degenerate if benchmark in QUESTION_BENCHMARKS else (), "str"),
    }


def measured_by(benchmark: str) -> tuple[str, str, float]:
    """Return a benchmark's measure in the evaluation's payload, the unit of its deltas, and the factor to it."""
    return ("loss", "nats", 1.0) if benchmark in LOSSES else ("score", "pp", 100.0)


def questions_in(columns: Collection[str]) -> list[str]:
    """Return the benchmarks with questions that a ledger, or a table of its pairs, has columns of."""
    return [name for name in QUESTION_BENCHMARKS if f"{name}_n" in columns]


def questions_shown(found: Iterable[str]) -> list[str]:
    """Return the benchmarks with questions that a table has columns of: those of every ledger, and those found."""
    there = {*IN_EVERY_LEDGER, *found}
    return [name for name in QUESTION_BENCHMARKS if name in there]
