"""Parts of the schemas that follow from :mod:`aletheia.study.benchmarks`: names, and the settings of each.

The description and the bounds of a setting stand in ``campaign.schema.yaml``, under ``$defs.benchmark_settings``.
"""

from __future__ import annotations

from typing import Any

from aletheia.study.benchmarks import BENCHMARKS, CODE, LOSS, QUESTION_BENCHMARKS, STAGED

SETTINGS_REF = "#/$defs/benchmark_settings/properties"


def with_benchmarks(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the benchmarks' names and sections filled in.

    Parameters
    ----------
    name, schema
        As of :func:`aletheia.study.schema.schema`; the mapping itself is changed.
    """
    if name == "campaign":
        properties = schema["properties"]
        properties["benchmarks"]["items"]["enum"] = list(BENCHMARKS)
        properties["evaluation"]["properties"] |= {benchmark: _section(benchmark) for benchmark in BENCHMARKS}
    if name == "models":
        published = schema["additionalProperties"]["properties"]["published_scores"]
        published["propertyNames"]["enum"] = list(QUESTION_BENCHMARKS)
    if name == "data":
        source = schema["additionalProperties"]["properties"]["source"]
        source["properties"]["format"]["enum"] += STAGED
    return schema


def _section(name: str) -> dict[str, Any]:
    """Return the schema of the settings of a benchmark, a section of ``evaluation``."""
    benchmark = BENCHMARKS[name]
    settings = {"rows": {}, "split": {}} if benchmark.kind == LOSS else {}
    own = ("num_fewshot", "max_new_tokens", "rows", "max_tokens")
    stated = {benchmark.named_by: name, **{key: getattr(benchmark, key) for key in own}}
    settings |= {key: {"default": value} for key, value in stated.items() if key and value is not None}
    settings |= {"sandbox": {}} if benchmark.kind == CODE else {}
    return {
        "description": f"How {name} is asked.",
        "type": "object",
        "additionalProperties": False,
        "default": {},
        "properties": {key: {"$ref": f"{SETTINGS_REF}/{key}", **default} for key, default in settings.items()},
    }
