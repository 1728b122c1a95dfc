"""The evaluation of one run: its model and adapter, and the artifacts of its benchmarks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.evaluation.outcomes import COLUMNS, Outcome, write_table
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import Source
from aletheia.provenance.job import Job, Step
from aletheia.provenance.start import work_begins
from aletheia.study.benchmarks import BENCHMARKS, CODE, HELDOUT, LOSSES, table_name
from aletheia.training.deadlines import deadline

BASE = "base"
# (lock, run, dtype=, config=) → model, tokenizer, and the function that writes generated answers (None: the model).
Loader = Callable[..., tuple[Any, Any, Any]]


@dataclass(frozen=True)
class EvaluationInputs:
    """The inputs of a run's evaluation beside its settings: artifacts as they were read, or their paths.

    Attributes
    ----------
    model_lock, data_lock
        Locks of the staged model, and of the data with held-out or test rows.
    questions
        Locks of the question sets, and of passages.
    run
        The ``run.json``; the base model is evaluated without it.
    precision
        Of the precision step, where the model's dtype is ``auto``.
    """

    model_lock: Source
    data_lock: Source
    questions: Sequence[Source] = ()
    run: Source | None = None
    precision: Source | None = None

    def paths(self) -> list[Path]:
        """Return the files."""
        given = (self.model_lock, self.data_lock, self.run, self.precision, *self.questions)
        return [Path(source) for source in given if source is not None]

    def read_by(self, job: Job) -> EvaluationInputs:
        """Return the same inputs, each artifact as the job has read it."""
        return EvaluationInputs(
            model_lock=job.input(self.model_lock, "model_lock"),
            data_lock=job.input(self.data_lock, "data_lock"),
            questions=[job.input(lock, "data_lock") for lock in self.questions],
            run=job.input(self.run, "run"),
            precision=job.input(self.precision, "precision"),
        )


@dataclass(frozen=True)
class EvaluatedBenchmark:
    """One benchmark of one run, ready to be written.

    Attributes
    ----------
    facts
        Run and conditions: model, arm, seed, benchmark, questions, dtype, batch size, padding, few-shot examples.
    seconds
        Wall-clock time of the benchmark, without loading the model.
    """

    facts: dict[str, Any]
    outcome: Outcome
    seconds: float

    def payload(self) -> dict[str, Any]:
        """Return the artifact's payload."""
        return {**self.facts, **self.outcome.summary()}

    def write(self, job: Job, folder: Path) -> None:
        """Write the table, then the score; of HumanEval the generations, with the payload in their sidecar."""
        name, payload = self.facts["benchmark"], self.payload()
        observed = {"benchmark_seconds": round(self.seconds, 3)}
        table, score = paths(folder, name)
        about = payload if score is None else {"rows": len(self.outcome.rows)}
        job.write_file(
            table,
            write=lambda path: write_table(path, self.outcome.rows, COLUMNS[name]),
            about=about,
            observed=observed,
        )
        if score is not None:
            job.write_json(score, kind="evaluation", payload=payload, observed=observed)
        value = payload["loss"] if name in LOSSES else payload["score"]
        print(f"{name}: {payload['status']}, {value}, n {payload['n']}, {self.seconds:.1f} s", flush=True)


def paths(folder: Path, benchmark: str) -> tuple[Path, Path | None]:
    """Return the paths of a benchmark's table and its score; None for programs, which are scored in a later step."""
    score = None if BENCHMARKS[benchmark].kind == CODE else folder / f"{benchmark}.json"
    return folder / table_name(benchmark), score


def outputs(folder: Path, benchmarks: list[str]) -> list[Path]:
    """Return the artifacts of a run's evaluation."""
    return [path for benchmark in benchmarks for path in paths(folder, benchmark) if path is not None]


def evaluate_run(
    step: Step, inputs: EvaluationInputs, folder: Path, *, threads: int, load: Loader | None = None, **facts: Any
) -> None:
    """Evaluate a run on all its benchmarks and write each outcome, unless all artifacts are up to date.

    Parameters
    ----------
    step
        The step, with sections ``model``, ``encoding`` and ``evaluation``.
    inputs
        Paths of its input artifacts.
    folder
        Where the artifacts go.
    threads
        For torch.
    load
        Loads the model: :func:`load_transformers`, or :func:`aletheia.evaluation.vllm_backend.load_served`.
    facts
        Further facts for the artifacts.
    """
    benchmarks = step.config["evaluation"]["benchmarks"]
    with Job(step, inputs=inputs.paths(), outputs=outputs(folder, benchmarks)) as job:
        if job.done:
            return
        with tempfile.TemporaryDirectory(prefix="evaluate-") as cache:
            options = {"threads": threads, "attempt": step.attempt, "load": load, **facts}
            for benchmark in evaluations(inputs.read_by(job), job.config, Path(cache), **options):
                benchmark.write(job, folder)


def evaluations(
    inputs: EvaluationInputs,
    config: Mapping[str, Any],
    cache: Path,
    *,
    threads: int = 1,
    attempt: int = 1,
    load: Loader | None = None,
    **facts: Any,
) -> Iterator[EvaluatedBenchmark]:
    """Yield each benchmark of a run as it ends.

    Parameters
    ----------
    inputs
        Its input artifacts.
    config
        Sections ``model`` (dtype, quantization), ``encoding`` and ``evaluation``.
    cache
        A folder for temporary files.
    threads, load, facts
        As of :func:`evaluate_run`.
    attempt
        Number of the job's try, from 1. The first may be killed at the job's wall limit, and the next gets more time;
        only from the second on does the deadline end a job in time to write its rows.
    """
    from aletheia.evaluation import evaluate
    from aletheia.method import loading

    evaluate.offline(cache)
    config = _with_prompt(config)
    settings = config["evaluation"]
    run = artifacts.payload(inputs.run, "run") if inputs.run else None
    dtype = loading.resolve_dtype(config["model"], inputs.precision)
    identity = {**_identity(inputs.model_lock, run), "dtype": dtype, **facts}
    locks = {name: _lock(inputs, settings, name) for name in settings["benchmarks"]}
    about = {name: {**_conditions(name, settings, lock), **identity} for name, lock in locks.items()}
    if run is not None and run["status"] != "ok":
        outcome = Outcome("no_adapter", f"the run ended as {run['status']}: {run['reason']}")
        yield from (EvaluatedBenchmark(about[name], outcome, 0.0) for name in locks)
        return
    loading.use_threads(threads)
    try:
        model, tokenizer, writer = (load or load_transformers)(
            inputs.model_lock, inputs.run, dtype=dtype, config=config
        )
    except (RuntimeError, MemoryError) as error:
        outcome = evaluate.out_of_memory(error)
        yield from (EvaluatedBenchmark(about[name], outcome, 0.0) for name in locks)
        return
    # The time limit starts after loading, which is done once for all benchmarks.
    end = deadline(settings["time_limit_seconds"], within_job=attempt > 1)
    loaded = evaluate.LoadedModel(model, tokenizer, settings["batch_size"], end, writer)
    work_begins()
    for name, lock in locks.items():
        started = time.monotonic()
        outcome = evaluate.evaluate(loaded, name, lock, config=config)
        yield EvaluatedBenchmark(about[name], outcome, time.monotonic() - started)


def _with_prompt(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings with ``prompt: registry`` replaced by the model's; rules pass the prompt itself."""
    settings = config["evaluation"]
    if settings["prompt"] != "registry":
        return config
    return {**config, "evaluation": {**settings, "prompt": config["model"].get("prompt", "plain")}}


def _identity(model_lock: Source, run: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return model, arm and seed of a run, or of the base model."""
    model = artifacts.payload(model_lock, "model_lock")["model"]
    if run is None:
        return {"model": model, "arm": BASE, "seed": None}
    if run["model"] != model:
        raise UserError(f"{model_lock}: expected the model that the run adapted, {run['model']}, found {model}")
    return {key: run[key] for key in ("model", "arm", "seed")}


def _conditions(name: str, settings: Mapping[str, Any], lock: Source) -> dict[str, Any]:
    """Return the conditions of a benchmark that its artifact records, such as its questions and batch size."""
    files = artifacts.payload(lock, "data_lock")["files"]
    file = BENCHMARKS[name].file(settings[name])
    if file not in files:
        raise UserError(
            f"{lock}: expected {file} for {name}, found {', '.join(files)}; name the lock of another data set"
        )
    return {
        "benchmark": name,
        "questions_sha256": files[file]["sha256"],
        "batch_size": settings["batch_size"],
        "padding": BENCHMARKS[name].padding,
        "num_fewshot": settings[name].get("num_fewshot", 0),
        "fewshot_sha256": files.get("fewshot.jsonl", {}).get("sha256") if settings[name].get("num_fewshot") else None,
        "prompt": None if name in LOSSES else settings["prompt"],
        "sandbox": None,
        **({"split": settings[name]["split"]} if name == HELDOUT else {}),
    }


def _lock(inputs: EvaluationInputs, settings: Mapping[str, Any], name: str) -> Source:
    """Return the lock of a benchmark's data."""
    named_by = BENCHMARKS[name].named_by
    if named_by is None:
        return inputs.data_lock
    wanted = settings[name][named_by]
    for lock in inputs.questions:
        if Path(lock).name == f"{wanted}.lock.json":
            return lock
    given = ", ".join(map(str, inputs.questions)) or "none"
    raise UserError(f"--questions: expected {wanted}.lock.json for {name}, found {given}")


def adapter_of(run: Source) -> Path:
    """Return the adapter folder of a run that ended well, after checking its files against ``run.json``.

    Raises
    ------
    UserError
        When a file is missing or was changed.
    """
    folder = Path(run).parent / "adapter"
    for name, expected in artifacts.payload(run, "run")["adapter"]["files"].items():
        path = folder / name
        digest = artifacts.sha256_file(path) if path.is_file() else "no file"
        if digest != expected:
            raise UserError(
                f"{path}: not the adapter that {Path(run).name} names (expected sha256 {expected}, found {digest}); "
                "train it again"
            )
    return folder


def load_model(lock: Source, run: Source | None, *, dtype: str, section: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return model and tokenizer: the base model, with a run's adapter on it where one is given.

    The adapter is not merged and keeps the precision of its training: merged into bf16 weights, much of a small update
    would be lost to rounding.
    """
    from aletheia.method import loading

    started = time.monotonic()
    model, tokenizer = loading.load(lock, dtype=dtype, **loading.load_options(section))
    # Printed once a job: a second line in a log would mean a second load.
    print(f"loaded {lock} in {time.monotonic() - started:.1f} s", flush=True)
    if run is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter_of(run)).eval()
    return model, tokenizer


def load_transformers(
    lock: Source, run: Source | None, *, dtype: str, config: Mapping[str, Any]
) -> tuple[Any, Any, None]:
    """Return model and tokenizer of :func:`load_model`, and None, as the model itself writes the answers."""
    return *load_model(lock, run, dtype=dtype, section=config["model"]), None
