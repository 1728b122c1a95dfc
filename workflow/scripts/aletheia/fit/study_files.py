"""The YAML files of a study as text, with comments that say where each value comes from."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from aletheia.fit.choices import Choices
from aletheia.fit.options import NO_RETENTION, Options
from aletheia.fit.survey import Survey
from aletheia.search.presets import preset

CONFIG, CAMPAIGN, RATES, SEARCH = "config.yaml", "campaign.yaml", "rates.yaml", "search.yaml"
SEARCH_CONFIG, MODELS, DATA = "search_config.yaml", "models.yaml", "data.yaml"
# In the order in which they are read by somebody who looks around.
FILES = (CONFIG, CAMPAIGN, RATES, SEARCH, SEARCH_CONFIG, MODELS, DATA)
MODEL, ROWS, PASSAGES = "model", "rows", "retention"
STD, ALE, FOUND = "std", "ale", "found"
ADAPTER = {"rank": 16, "alpha": 32}  # the paper's
# Of the search: keys that no arm may state.
OF_SEARCH = ("extras",)
FLOOR_SEEDS, CONFIRM_SEEDS = (1, 2, 3), (101, 102, 103, 104)
RUNS_BUDGET = 40
WIDTH = 118
SEARCH_RESULTS = "results-search"
PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")  # text that YAML reads as text, in flow style too
SEARCH_ABOUT = "The search, a study of its own beside the other; the campaign reads the recipe that it ends with."
ABOUT = (
    "A study that `aletheia fit` wrote. Edited files are kept: `aletheia fit --out` and this folder goes on with them."
)


def study_files(options: Options, found: Survey, choices: Choices) -> dict[str, str]:
    """Return ``{name: text}`` of the files of a study, the configuration last, since with it the study is whole."""
    arms = _arms(options)
    files = {MODELS: _models(options), DATA: _data(options, choices)}
    if options.search == "none":
        files[CAMPAIGN] = _campaign(options, found, choices, arms)
        return {**files, CONFIG: _config([CAMPAIGN])}
    tried = arms if options.search == "quick" else {name: arms[name] for name in (STD, ALE)}
    files[RATES] = _rates(options, found, choices, tried)
    chosen = {name: {**keys, "learning_rate": {"best_of": _trials(name, choices)}} for name, keys in tried.items()}
    if options.search == "quick":
        files[CAMPAIGN] = _campaign(options, found, choices, chosen)
        return {**files, CONFIG: _config([RATES, CAMPAIGN])}
    chosen |= {FOUND: {"recipe": f"{SEARCH_RESULTS}/search/{MODEL}/recipe.yaml"}}
    files[SEARCH] = _search(options, found, choices, arms)
    files[CAMPAIGN] = _campaign(options, found, choices, chosen)
    files[SEARCH_CONFIG] = _config([SEARCH], SEARCH_ABOUT) + f"pathvars: {{results: {SEARCH_RESULTS}}}\n"
    return {**files, CONFIG: _config([RATES, CAMPAIGN])}


def _arms(options: Options) -> dict[str, dict[str, Any]]:
    arms: dict[str, dict[str, Any]] = {STD: {"layers": "all"}, ALE: {"layers": "gradient", "budget_percent": 50}}
    for name in options.arms:
        keys = preset(name, ADAPTER)
        arms[name] = {key: value for key, value in keys.items() if key not in OF_SEARCH}
    return arms


def _trials(arm: str, choices: Choices) -> list[str]:
    return [f"{arm}_rate{number}" for number in range(1, len(choices.rates) + 1)]


def _models(options: Options) -> str:
    return _text(
        "The model. Docs: docs/campaigns.md, Models and data.",
        _block(
            MODEL,
            source=_source(options.model),
            dtype=("auto", "bf16 or fp32, whichever this machine does faster (a GPU: bf16)"),
        ),
    )


def _source(place: str) -> dict[str, str]:
    """Return where a model or rows come from: a path, or else an id on the hub."""
    # Paths of what is there are absolute by now.
    local = os.path.isabs(place) or os.path.exists(place)
    return {"type": "local", "path": place} if local else {"type": "hub", "id": place}


def _data(options: Options, choices: Choices) -> str:
    reason = choices.reasons["held_out"]
    columns = {"columns": dict(options.columns)} if options.columns else {}
    rows: dict[str, Any] = {"source": {**_source(options.data), **columns}, "held_out": (choices.held_out, reason)}
    if choices.test:
        rows["test"] = (choices.test, "as many: they judge, and nothing is chosen by them")
    blocks = [_block(ROWS, **rows)]
    if options.retention is None:
        blocks.append(_wikipedia())
    elif options.retention != NO_RETENTION:
        source = {"type": "local", "path": options.retention, "format": PASSAGES}
        blocks.append(_block(PASSAGES, source=source))
    return _text("The rows, and passages of general text that show what a model unlearns.", *blocks)


def _wikipedia() -> str:
    """Return the entry of the default study's passages, as config/data.yaml has it."""
    from aletheia.provenance.lineage import ROOT
    from aletheia.study.schema import read_yaml

    entry = read_yaml(ROOT / "config" / "data.yaml")[PASSAGES]
    return "# Passages of Wikipedia; they come from the package index.\n" + _block(PASSAGES, **entry)


def _config(campaigns: list[str], about: str = ABOUT) -> str:
    return _text(about, _block(None, campaigns=campaigns, models=MODELS, data=DATA))


def _campaign(options: Options, found: Survey, choices: Choices, arms: Mapping[str, Any]) -> str:
    benchmarks = ["heldout", *([PASSAGES] if found.passages else [])]
    why = f"--seeds {options.seeds}" if options.seeds else f"what --search {options.search} has"
    return _text(
        "The runs: standard LoRA on all layers, and what it is compared with. Docs: docs/campaigns.md.",
        _block(None, name="fit"),
        _shared(seeds=(list(options.run_seeds), why), benchmarks=benchmarks),
        _arm_lines(arms),
        *_settings(found, choices, benchmarks),
    )


def _rates(options: Options, found: Survey, choices: Choices, arms: Mapping[str, Any]) -> str:
    trials = {
        name: {**keys, "learning_rate": rate}
        for arm, keys in arms.items()
        for name, rate in zip(_trials(arm, choices), choices.rates, strict=True)
    }
    return _text(
        "Each arm at three rates, one run each: the campaign takes the rate with the lowest held-out loss.",
        _block(None, name="rates"),
        _shared(seeds=([options.run_seeds[0]], "the campaign's first"), benchmarks=["heldout"]),
        _arm_lines(trials),
        *_settings(found, choices, ["heldout"]),
    )


def _search(options: Options, found: Survey, choices: Choices, arms: Mapping[str, Any]) -> str:
    presets = ["last_half", "last_third", "gradient_half", "v_o_down"]
    scan = max(2, choices.steps // 2)
    # The scan is the shortest run that these settings must suit.
    short = {key: min(getattr(choices, key), scan - 1) for key in ("warmup_steps", "timing_warmup_steps")}
    choices = dataclasses.replace(choices, **short, curve_every=None)
    section = {
        "budget": {"runs": RUNS_BUDGET},
        "rates": list(choices.rates),
        "steps": {"scan": scan, "full": max(scan + 1, choices.steps)},
        "seeds": {"floor": list(FLOOR_SEEDS), "search": options.run_seeds[0], "confirm": list(CONFIRM_SEEDS)},
        "presets": list(dict.fromkeys([*presets, *options.arms])),
    }
    return _text(
        "A search for the cheapest recipe that is as good as tuned standard LoRA. Docs: docs/search.md.",
        _block(None, name="search"),
        _shared(seeds=([options.run_seeds[0]], "the campaign's first"), benchmarks=["heldout"]),
        _arm_lines({STD: arms[STD]}),
        _block(None, search=section),
        *_settings(found, choices, ["heldout"]),
    )


def _shared(*, seeds: tuple[list[int], str], benchmarks: list[str]) -> str:
    return _block(None, models=[MODEL], data=ROWS, seeds=seeds, benchmarks=benchmarks)


def _arm_lines(arms: Mapping[str, Any]) -> str:
    return "arms:\n" + "".join(f"  {name}: {_flow(keys)}\n" for name, keys in arms.items())


def _settings(found: Survey, choices: Choices, benchmarks: list[str]) -> list[str]:
    """Return the sections that all campaigns of the study share."""
    reasons = choices.reasons
    split = "test" if choices.test else "heldout"
    (unit, length), rate = next(iter(choices.length.items())), choices.rates[len(choices.rates) // 2]
    training: dict[str, Any] = {
        unit: (length, reasons["length"]),
        "batch_size": choices.batch_size,
        "accumulation": (choices.accumulation, reasons["batch"]),
        "learning_rate": (rate, reasons["rates"]),
        "schedule": ("linear", "so shaped, steps were sooner at a loss than the paper's (docs/search.md)"),
        "warmup_steps": (choices.warmup_steps, "a tenth of the steps, or less"),
        "warmup_from": ("first_step", "so that no step of a short run teaches nothing"),
        "timing_warmup_steps": choices.timing_warmup_steps,
        "eval_rows": choices.eval_rows,
    }
    if choices.curve_every:
        training["curve_every"] = (choices.curve_every, "four losses on the way")
    evaluation: dict[str, Any] = {"heldout": {"rows": choices.test or choices.held_out, "split": split}}
    if PASSAGES in benchmarks:
        evaluation[PASSAGES] = {"rows": found.passages}
    prompts = {
        "chat": "the model's chat template",
        "alpaca": "the Alpaca wording, for the tokenizer has no chat template",
        "text": "the rows are plain text",
    }
    return [
        _block(
            "encoding",
            prompt=(found.prompt, prompts[found.prompt]),
            max_tokens=(choices.max_tokens, reasons["max_tokens"]),
        ),
        _block("adapter", **{**ADAPTER, "alpha": (ADAPTER["alpha"], "rank and alpha are the paper's")}),
        _block("training", **training),
        _block("evaluation", **evaluation),
    ]


def _text(about: str, *blocks: str) -> str:
    return "\n".join([*(f"# {line}" for line in textwrap.wrap(about, WIDTH)), *blocks])


def _block(section: str | None, /, **entries: Any) -> str:
    """Return a mapping in block style; an entry that is a pair is a value and the reason for it."""
    indent, lines = ("  ", [f"{section}:"]) if section else ("", [])
    for key, entry in entries.items():
        value, reason = entry if isinstance(entry, tuple) else (entry, "")
        comment = f"  # {reason}" if reason else ""
        lines.append(f"{indent}{key}: {_flow(value)}{comment}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return a value on one line; text that YAML could misread is quoted."""
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        # YAML takes 1e-05 for text.
        return repr(value) if "e" not in repr(value) or "." in repr(value) else repr(value).replace("e", ".0e")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value)
