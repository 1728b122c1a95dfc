"""Which step asks which benchmark: `evaluate` all, or `generate`, with vLLM, those whose answers are generated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.study.benchmarks import GENERATED

VLLM = "vllm"
# vLLM's kernels for adapters are for 16 bits; its 4-bit weights and its attention differ from those in training.
UNSERVED_SETTINGS = {"quantization": "nf4", "attention": "fp32", "dtype": "fp32"}


def jobs_of(benchmarks: Iterable[str], generation: str) -> dict[str, list[str]]:
    """Return ``{step: benchmarks}`` of the jobs that evaluate one run, each of which loads the model once.

    Parameters
    ----------
    benchmarks
        What the run is evaluated on.
    generation
        The campaign's ``evaluation.generation``.
    """
    jobs: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        served = generation == VLLM and benchmark in GENERATED
        jobs.setdefault("generate" if served else "evaluate", []).append(benchmark)
    return jobs


def unserved_setting(entry: Mapping[str, Any]) -> str | None:
    """Return the first setting of a model that vLLM does not serve, as ``key: value``; None where it serves all."""
    return next((f"{key}: {value}" for key, value in UNSERVED_SETTINGS.items() if entry.get(key) == value), None)


def check_vllm_serves(where: str, model: str, entry: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse a model that vLLM is asked to serve and cannot.

    Parameters
    ----------
    where, model
        The campaign's file and the model's name, for the sentence.
    entry
        The model in the registry.
    settings
        The model's settings in the campaign: ``benchmarks`` and ``evaluation``.

    Raises
    ------
    UserError
        With the registry's key that stands in the way.
    """
    jobs = jobs_of(settings["benchmarks"], settings["evaluation"]["generation"])
    if "generate" in jobs and unserved_setting(entry):
        raise UserError(
            f"{where}: evaluation.generation is vllm, which does not serve {model} as the registry has it "
            f"({unserved_setting(entry)}); set overrides.{model}.evaluation.generation to transformers"
        )
