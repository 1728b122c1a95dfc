"""The model card of an adapter: what it is, what it was trained on, how it did, and what it was made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aletheia.provenance import artifacts
from aletheia.provenance.lineage import compact_json
from aletheia.training.row_counts import ROWS, count_kept, in_words

WEIGHTS_SUFFIX = ".safetensors"
# Licences of models that the hub knows by an identifier (huggingface.co/docs/hub/repositories-licenses).
HUB_LICENCE = re.compile(
    r"apache-2\.0|mit|bsd-[23]-clause|afl-3\.0|mpl-2\.0|[al]?gpl-[23]\.0|unlicense|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[34]\.0|"
    r"(bigscience-|bigcode-|creativeml-)?openrail(-m|\+\+)?|llama(2|3|3\.[123]|4)|gemma"
)


def model_card(
    facts: Mapping[str, Any],
    losses: Sequence[float],
    *,
    model_lock: Path,
    data_lock: Path,
    max_tokens: int,
    settings: Mapping[str, Any],
    lineage: Mapping[str, Any],
) -> str:
    """Return the README.md that goes into the adapter's folder.

    Parameters
    ----------
    facts
        The run's facts, as run.json's payload has them.
    losses
        Of each optimiser step.
    model_lock, data_lock
        Locks of the base model and of the training data.
    max_tokens
        The longest sequence (``encoding.max_tokens``).
    settings
        The campaign's ``training`` section.
    lineage
        The run's lineage (:attr:`aletheia.provenance.job.Job.lineage`).

    Returns
    -------
    str
        Markdown with YAML front matter. Nothing measured on a clock is in it, so that equal runs have equal cards.
    """
    model, data = (artifacts.payload(path) for path in (model_lock, data_lock))
    placement = facts["placement"]
    code = hashlib.sha256(compact_json(lineage["code"]).encode()).hexdigest()
    # By the hash of the payload, which excludes observed values. Measured inputs (precision, another run) are left out,
    # since they differ each time.
    repeatable = {name: entry for name, entry in lineage["inputs"].items() if not _differs_each_time(name)}
    made_from = "\n".join(f"- `{name}`: `{entry['payload_sha256']}`" for name, entry in repeatable.items())
    ranks = sorted({entry["rank"] for entry in placement["modules"].values()})
    return (
        f"---\n{yaml.safe_dump(_front_matter(model, data, facts), sort_keys=False, allow_unicode=True)}---\n\n"
        f"# {facts['model']}, arm {facts['arm']}, seed {facts['seed']}\n\n"
        f"A LoRA adapter of {len(placement['layers'])} of {placement['layers_total']} layers "
        f"({', '.join(map(str, placement['layers']))}), rank {', '.join(map(str, ranks))}, "
        f"{facts['trainable_parameters']:,} parameters.\n\n"
        f"{how_to_load(model)}"
        "## Training\n\n"
        f"- Data: {data['data']}, {_rows(data)}\n"
        f"{_row_counts(facts.get('row_counts') or {}, max_tokens)}"
        f"- Steps: {facts['step']} of {settings['batch_size']} × {settings['accumulation']} sequences, "
        f"{facts['tokens']:,} tokens without padding\n"
        f"- Precision: {facts['dtype']}, base weights {facts['quantization'] or facts['dtype']}\n"
        f"- Peak learning rate: {facts['learning_rate']:g}, schedule {settings['schedule']}\n\n"
        "## Numbers\n\n"
        "| measure | nats a token |\n|---|---|\n"
        f"| training loss, first step | {losses[0]:.4f} |\n"
        f"| training loss, last step | {losses[-1]:.4f} |\n"
        f"| held-out loss{_heldout_rows(facts.get('row_counts') or {})} | {facts['eval_loss']:.4f} |\n\n"
        "## Lineage\n\n"
        f"Code: `{code}`. Inputs by the sha256 of their payloads:\n\n{made_from}\n\n"
        "`run.json` beside this folder holds every setting, step and module.\n"
    )


def base_model(lock: Mapping[str, Any]) -> dict[str, str | None]:
    """Return ``base`` and ``revision``, the public name of an adapter's base model.

    Parameters
    ----------
    lock
        Payload of the base model's lock.

    Returns
    -------
    dict
        Hub id and commit; for a model of another source its name in the study, and no revision.
    """
    hub = lock["source"].get("id")
    return {"base": hub or lock["model"], "revision": lock["revision"] if hub else None}


def how_to_load(model: Mapping[str, Any]) -> str:
    """Return the section on loading an adapter onto its base model, with the weights' hashes where no hub has it.

    Parameters
    ----------
    model
        Payload of the base model's lock.

    Returns
    -------
    str
        Markdown.
    """
    names = base_model(model)
    where = f'"{names["base"]}", revision="{names["revision"]}"' if names["revision"] else "FOLDER"
    code = (
        "```python\n"
        f"base = AutoModelForCausalLM.from_pretrained({where})\n"
        "model = PeftModel.from_pretrained(base, ADAPTER)\n"
        "```\n\n"
        "ADAPTER is the folder of this file."
    )
    if names["revision"]:
        return f"{code}\n\n"
    files = [
        f"- `{name}`: `{entry['sha256']}`" for name, entry in model["files"].items() if name.endswith(WEIGHTS_SUFFIX)
    ]
    return (
        f"{code} FOLDER holds the files of the base model, which the study calls `{names['base']}`; it came from no "
        "hub, so PEFT cannot find it by itself. Its weights, by sha256:\n\n" + "\n".join(files) + "\n\n"
    )


def _front_matter(model: Mapping[str, Any], data: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card's metadata as the hub reads it (huggingface.co/docs/hub/model-cards)."""
    base, rows = model["source"].get("id"), data["source"].get("id")
    return {
        # Hub ids, where there are any: nothing else has a meaning outside the study.
        **({"base_model": base, "base_model_relation": "adapter"} if base else {}),
        **({"datasets": [rows]} if rows else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "aletheia"],
        **_licence(model.get("licence")),
        "model-index": [_result(data, facts)],
    }


def _licence(name: str | None) -> dict[str, str]:
    """Return the licence of the base model: by the hub's identifier, or as ``other`` with its name."""
    if not name:
        return {}
    identifier = name.lower()
    return {"license": identifier} if HUB_LICENCE.fullmatch(identifier) else {"license": "other", "license_name": name}


def _result(data: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of ``model-index``: the one number that each run has, its held-out loss."""
    name = data["data"]
    return {
        "name": f"{facts['model']}-{facts['arm']}-seed{facts['seed']}",
        "results": [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": f"{name}, held-out rows", "type": data["source"].get("id") or name},
                "metrics": [
                    {
                        "type": "loss",
                        "name": f"cross-entropy, nats a token{_heldout_rows(facts.get('row_counts') or {})}",
                        "value": round(facts["eval_loss"], 4),
                    }
                ],
            }
        ],
    }


def _differs_each_time(name: str) -> bool:
    """Tell whether an input's payload holds measured times, or is another run's."""
    return "/precision/" in name or "/attribution/" in name or name.endswith("run.json")


def _row_counts(counts: Mapping[str, Any], max_tokens: int) -> str:
    """Return a line on how many rows the token limit cut or left out; empty where the run has no counts."""
    sentence = "; ".join(in_words(each, ROWS[name], max_tokens) for name, each in counts.items())
    return f"- Rows: {sentence}\n" if sentence else ""


def _heldout_rows(counts: Mapping[str, Any]) -> str:
    """Return the number of rows of the held-out loss, which is not over the rows that the evaluation reads."""
    return f", {count_kept(counts['heldout'])} rows at the end of training" if "heldout" in counts else ""


def _rows(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{entry['rows']} rows in {name}" for name, entry in data["files"].items())
