"""What each benchmark asks: one record each, from which all else that the study knows of it is derived.

A benchmark is added in at most four places, and in nothing else of the library, the schemas or the rules:

1. its record here, in :data:`BENCHMARKS`: what is asked, and in which order benchmarks are told;
2. its record in :mod:`aletheia.analysis.benchmarks`: what is said of it (nothing that evaluates imports that);
3. ``workflow/tasks/NAME.yaml``: the task of lm-evaluation-harness, which reads the staged questions;
4. a parser in :mod:`aletheia.staging.question_formats` where its file has a form of its own. Multiple-choice questions
   in named columns need none: :class:`ChoiceColumns` says which columns they are.

Its questions are then an entry of the registry of data with ``source.format: NAME``, and campaigns ask it by its name.
A second benchmark of generated code, further losses, or answers that are judged in another way than those here, need
more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# How a benchmark is answered: the mean loss of held-out rows; that of passages of text, all tokens of them; the choice
# of largest log-likelihood; a text whose last part is the answer; a program that must pass its tests, in a sandbox.
LOSS, PASSAGES, CHOICES, TEXT, CODE = "loss", "passages", "choices", "text", "code"

# Columns of a benchmark's table of questions; an evaluation that failed leaves them empty.
QUESTION_COLUMNS = {"question_id": "string", "prompt_sha256": "string"}
_GENERATION = {"generation": "string", "tokens": "int64", "truncated": "bool"}
_STATUS = {"status": "string"}
_LIKELIEST = {
    "loglikelihoods": "list<double>",
    "probability": "double",
    "prediction": "string",
    "answer": "string",
    "correct": "bool",
}
_ROW_LOSS = {"tokens": "int64", "loss": "double"}
_NUMBERS = {"prediction": "string", "last_number": "string", "correct": "bool"}


@dataclass(frozen=True)
class ChoiceColumns:
    """Columns of a file of multiple-choice questions, for the benchmarks that need no parser of their own.

    Attributes
    ----------
    question, answer
        The question's column, and the one that says which choice is right.
    choices
        One column a choice; a single one that holds a list of them.
    """

    question: str
    choices: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark asks.

    Attributes
    ----------
    kind
        :data:`LOSS`, :data:`PASSAGES`, :data:`CHOICES`, :data:`TEXT` or :data:`CODE`.
    columns
        ``{name: Arrow type}`` of its table of questions, rows or passages.
    size
        Number of questions, where the registry draws no subset; None for held-out rows and passages.
    example_tokens
        Tokens of a question with its solution, counted as often as the model reads them; chosen by hand, for plans.
    num_fewshot
        Solved examples before each question, where a campaign says nothing; None where there never are any.
    max_new_tokens
        Longest answer in tokens, where a campaign says nothing; None where none is written.
    rows, max_tokens
        Passages that are read, and the longest piece of each, where a campaign says nothing.
    normalised
        Whether choices differ in length, so that the likeliest one a character is noted beside the likeliest one.
    by_subject
        Whether its own files are one a subject, so that a folder of them can be its questions.
    chat_task
        The file of ``workflow/tasks`` that asks it through a chat template, where that is another than its own.
    choice_columns
        Where its questions stand in a file; None where they have a parser of their own.
    """

    kind: str
    columns: Mapping[str, str]
    size: int | None = None
    example_tokens: int | None = None
    num_fewshot: int | None = None
    max_new_tokens: int | None = None
    rows: int | None = None
    max_tokens: int | None = None
    normalised: bool = False
    by_subject: bool = False
    chat_task: str | None = None
    choice_columns: ChoiceColumns | None = None

    @property
    def generated(self) -> bool:
        """Whether its answers are written; the others are scored from log-likelihoods, by transformers always."""
        return self.kind in (TEXT, CODE)

    @property
    def named_by(self) -> str | None:
        """The setting that names its data in the registry; None where it reads rows set apart of the training data."""
        return {LOSS: None, PASSAGES: "passages"}.get(self.kind, "questions")

    def file(self, settings: Mapping[str, Any]) -> str:
        """Return the file of its staged data that it reads by its section of ``evaluation``."""
        return f"{self.named_by or settings['split']}.jsonl"

    @property
    def padding(self) -> str:
        """The side on which the rows of a batch are padded.

        Scored rows are padded on the right, which a causal model does not see; generated ones on the left, so that all
        rows end at the same position. vLLM packs rows and pads none.
        """
        return "left" if self.generated else "right"


BENCHMARKS = {
    "heldout": Benchmark(LOSS, columns={"row": "int64", **_ROW_LOSS, **_STATUS}),
    "mmlu": Benchmark(
        CHOICES,
        columns={**QUESTION_COLUMNS, **_LIKELIEST, **_STATUS},
        size=14042,
        example_tokens=120,
        num_fewshot=5,
        by_subject=True,
    ),
    "gsm8k": Benchmark(
        TEXT,
        columns={**QUESTION_COLUMNS, **_GENERATION, **_NUMBERS, **_STATUS},
        size=1319,
        example_tokens=180,
        num_fewshot=5,
        max_new_tokens=256,
    ),
    # Its table is of generations; score_code.py makes another of them.
    "humaneval": Benchmark(
        CODE,
        columns={**QUESTION_COLUMNS, **_GENERATION, **_STATUS},
        size=164,
        example_tokens=180,
        max_new_tokens=512,
        chat_task="humaneval_chat",
    ),
    # The questions with known answers are those of its validation split; both solutions are read, each after the goal.
    "piqa": Benchmark(
        CHOICES,
        columns={**QUESTION_COLUMNS, **_LIKELIEST, "correct_normalised": "bool", **_STATUS},
        size=1838,
        example_tokens=60,
        num_fewshot=0,
        normalised=True,
        choice_columns=ChoiceColumns(question="goal", choices=("sol1", "sol2"), answer="label"),
    ),
    # The fact that each question is about is not shown, as in the harness's task: no open book.
    "openbookqa": Benchmark(
        CHOICES,
        columns={**QUESTION_COLUMNS, **_LIKELIEST, "correct_normalised": "bool", **_STATUS},
        size=500,
        example_tokens=80,
        num_fewshot=0,
        normalised=True,
    ),
    # Text that the training data does not resemble: what a model unlearns shows as loss, also where no answer flips.
    "retention": Benchmark(
        PASSAGES,
        columns={"row": "int64", "id": "string", **_ROW_LOSS, **_STATUS},
        rows=48,
        max_tokens=128,
    ),
}
(HELDOUT,) = (name for name, benchmark in BENCHMARKS.items() if benchmark.kind == LOSS)
TEST = "test"  # the split of rows set apart that judge, and choose nothing
(HUMANEVAL,) = (name for name, benchmark in BENCHMARKS.items() if benchmark.kind == CODE)
(RETENTION,) = (name for name, benchmark in BENCHMARKS.items() if benchmark.kind == PASSAGES)
LOSSES = (HELDOUT, RETENTION)
# Benchmarks scored 0 to 1, each a format of questions.
QUESTION_BENCHMARKS = tuple(name for name in BENCHMARKS if name not in LOSSES)
# Those with an entry of their own in the registry of data, whose source.format is their name.
STAGED = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.named_by is not None)
GENERATED = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.generated)
SOLVED = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.num_fewshot is not None)


def table_name(benchmark: str) -> str:
    """Return the file name of the table that an evaluation writes; of programs, that of those not yet judged."""
    return f"{benchmark}.generations.parquet" if BENCHMARKS[benchmark].kind == CODE else f"{benchmark}.parquet"


def either(names: Iterable[str]) -> str:
    """Return names for a sentence: "mmlu, gsm8k or humaneval"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
