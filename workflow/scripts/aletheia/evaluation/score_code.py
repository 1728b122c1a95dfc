"""Score generated code: join each completion with its problem and run the two in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.evaluation.degenerate import degenerate_answers, unparsed_programs
from aletheia.evaluation.outcomes import COLUMNS, PASSED, proportion, write_table
from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.sandbox import judge
from aletheia.sandbox.process import SandboxError


def score(
    generations: Path,
    questions: artifacts.Source,
    *,
    settings: Mapping[str, Any],
    workers: int,
    about: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Run every completion of a table of generations.

    Parameters
    ----------
    generations
        ``humaneval.generations.parquet``.
    questions
        Lock of the problems that were asked.
    settings
        The ``evaluation.humaneval`` section; ``sandbox`` is read.
    workers
        Programs that run at a time.
    about
        The ``about`` section of the generations' sidecar; read from there when None.

    Returns
    -------
    tuple
        Payload of the ``evaluation`` artifact, one row a problem, and the observed seconds of each problem.

    Raises
    ------
    UserError
        When the generations answer other problems, or there is something to run and no sandbox that works.
    """
    if about is None:
        about = artifacts.payload(artifacts.sidecar(generations), "file")["about"]
    payload, problems = dict(about), _problems(generations, questions, about["questions_sha256"])
    if payload["status"] != "ok":
        # Nothing is run, so no sandbox is needed.
        return payload, [], {}
    kind = judge.resolve(settings["sandbox"])
    payload["sandbox"] = kind
    answers = read(generations)
    # Not run, and so not passed: an answer to a cut prompt, one with scores that are no numbers, an empty one.
    runnable = [answer for answer in answers if answer["status"] == "ok"]
    chat = payload["prompt"] == "chat"
    programs = [program(problems[answer["question_id"]], answer["generation"], chat=chat) for answer in runnable]
    verdicts = _verdicts(programs, kind, workers)
    verdict_of = {answer["question_id"]: verdict for answer, verdict in zip(runnable, verdicts, strict=True)}
    rows = [{**answer, **_outcome(answer["status"], verdict_of.get(answer["question_id"]))} for answer in answers]
    payload["n_correct"] = sum(row["passed"] for row in rows)
    payload["score"], payload["stderr"] = proportion([row["passed"] for row in rows])
    unparsed = unparsed_programs(each.code for each in programs)
    payload["degenerate"] = [*degenerate_answers(answers), *unparsed]
    # Times differ from run to run, so they are not in the table, whose hash changes only with the verdicts.
    return payload, rows, {"program_seconds": {name: verdict.seconds for name, verdict in verdict_of.items()}}


def _problems(generations: Path, questions: artifacts.Source, sha256: str) -> dict[str, dict[str, Any]]:
    """Return the problems by id; refuse others than those that the generations answer."""
    problems = {row["id"]: row for row in read_rows(checked_folder(questions, "data_lock") / "questions.jsonl")}
    actual = artifacts.payload(questions, "data_lock")["files"]["questions.jsonl"]["sha256"]
    if actual != sha256:
        raise UserError(
            f"{questions}: expected the problems that {generations} answers "
            f"(sha256 {sha256}), found sha256 {actual}; evaluate the run again"
        )
    return problems


def _verdicts(programs: list[judge.Program], kind: str, workers: int) -> list[judge.Verdict]:
    try:
        return judge.run_all(programs, kind=kind, workers=workers)
    except SandboxError as error:
        raise UserError(
            f"the sandbox ({kind}) worked at first and then twice did not ({error}): "
            "start the step again, with fewer threads where processes, memory or open files are short"
        ) from error


def _outcome(status: str, verdict: judge.Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"passed": False, "verdict": status, "error": None}
    return {"passed": verdict.passed, "verdict": verdict.verdict, "error": verdict.error}


def program(problem: Mapping[str, Any], completion: str, *, chat: bool = False) -> judge.Program:
    """Return prompt and completion as one program, as the harness joins them.

    Parameters
    ----------
    problem
        One of HumanEval's rows.
    completion
        What was generated after the prompt.
    chat
        Whether the answer begins inside a code block: then the first fence closes it, and the rest is no code. A
        completion that begins with a fence adds nothing. After a plain prompt a fence is part of the code, and an
        error.
    """
    added = completion.split("```", maxsplit=1)[0] if chat else completion
    return judge.Program(
        problem["prompt"] + added + "\n", problem["test"], problem["entry_point"], helpers=problem["prompt"]
    )


def read(generations: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of generations."""
    from pyarrow import parquet

    return parquet.read_table(generations).to_pylist()


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table of verdicts."""
    write_table(path, rows, COLUMNS[PASSED])
