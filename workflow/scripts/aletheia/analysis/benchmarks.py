"""Facts on each benchmark for analysis and report: its title, the score of guessing, its columns in the ledger.

How a benchmark is evaluated stands in :mod:`aletheia.study.benchmarks`. No evaluation imports this module, so that
another title reruns none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aletheia.study.benchmarks import BENCHMARKS, CHOICES, LOSSES, QUESTION_BENCHMARKS


@dataclass(frozen=True)
class BenchmarkFacts:
    """Facts on one benchmark.

    Attributes
    ----------
    title
        Its name in tables, analyses and figures.
    chance
        The share of questions that guessing answers correctly: 0 where answers are generated.
    stem
        The beginning of its ledger columns, where that is not its name.
    in_every_ledger
        Whether a ledger has its columns even if no campaign has the benchmark: true of the paper's. The columns of
        others follow at the ledger's end where a campaign has them.
    in_master
        Whether it is in RESULTS_MASTER.csv, the pairs that report speed; the paper's has MMLU alone.
    """

    title: str
    chance: float = 0.0
    stem: str | None = None
    in_every_ledger: bool = False
    in_master: bool = False


FACTS = {
    "heldout": BenchmarkFacts("held-out loss", stem="heldout_loss", in_every_ledger=True),
    "mmlu": BenchmarkFacts("MMLU", chance=0.25, in_every_ledger=True, in_master=True),
    "gsm8k": BenchmarkFacts("GSM8K", in_every_ledger=True),
    "humaneval": BenchmarkFacts("HumanEval", in_every_ledger=True),
    "piqa": BenchmarkFacts("PIQA", chance=0.5),
    "openbookqa": BenchmarkFacts("OpenBookQA", chance=0.25),
    "retention": BenchmarkFacts("retention loss", stem="retention_loss"),
}
TITLES = {name: facts.title for name, facts in FACTS.items()}
IN_EVERY_LEDGER = tuple(name for name in BENCHMARKS if FACTS[name].in_every_ledger)


def stem_of(benchmark: str) -> str:
    """Return the ledger column of a benchmark's score or loss."""
    return FACTS[benchmark].stem or benchmark


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
    """Return ``{column: pandas type}`` of a benchmark's further columns, where evaluations record them.

    For choices the mean probability of the right one, of the base model and of the run; for all answers the degenerate
    ones, of the run and of the base model. Evaluations of earlier versions record neither.
    """
    likely = (f"{benchmark}_probability_base", f"{benchmark}_probability")
    degenerate = (f"{benchmark}_degenerate", f"{benchmark}_base_degenerate")
    return {
        **dict.fromkeys(likely if BENCHMARKS[benchmark].kind == CHOICES else (), "float64"),
        **dict.fromkeys(degenerate if benchmark in QUESTION_BENCHMARKS else (), "str"),
    }


def measured_by(benchmark: str) -> tuple[str, str, float]:
    """Return a benchmark's measure in the evaluation's payload, the unit of its deltas, and the factor to that unit."""
    return ("loss", "nats", 1.0) if benchmark in LOSSES else ("score", "pp", 100.0)


def questions_in(columns: Collection[str]) -> list[str]:
    """Return the benchmarks with questions that a ledger, or a table of its pairs, has columns of."""
    return [name for name in QUESTION_BENCHMARKS if f"{name}_n" in columns]


def questions_shown(found: Iterable[str]) -> list[str]:
    """Return the benchmarks with questions that a table has columns of: those of every ledger, and those found."""
    shown = {*IN_EVERY_LEDGER, *found}
    return [name for name in QUESTION_BENCHMARKS if name in shown]
