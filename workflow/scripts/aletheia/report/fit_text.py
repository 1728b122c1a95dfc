"""REPORT.md: what fine-tuning one model gave, whether choosing its layers was worth it, and what cannot be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.analysis.effects import HELDOUT_LOSS, RETENTION_LOSS, TIME, TIME_WITH_PROBE
from aletheia.analysis.fit_verdict import NOT_WORTH_IT, WORTH_IT, reason_in_words
from aletheia.report.fit_answer import answer, cannot_say, over, rows_name
from aletheia.report.table_text import DASH, count_text, filled_table, interval, number
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT, RETENTION

GIB = 2**30
Numbers = Mapping[str, Any]


def fit_text(summary: Numbers) -> str:
    """Return REPORT.md.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.fit_summary.summarise_fit`.
    """
    arms = summary["arms"]
    sections = {
        "What each gave": filled_table([_base_row(summary), *(_row(arm, own) for arm, own in arms.items())]),
        "Against standard LoRA": filled_table([_against(arm, own) for arm, own in arms.items() if own["against_std"]]),
        "What was trained": filled_table([_trained(arm, own) for arm, own in arms.items()]),
        "Learning rates": _rates(summary),
        "The adapter": _adapter(summary),
        "What this cannot say": [_list(cannot_say(summary))],
        "How to read this": [_rules(summary)],
    }
    parts = [f"# Was it worth it? {summary['model']}", answer(summary), "![Losses and times](report.svg)"]
    for title, body in sections.items():
        parts += [f"## {title}", *body] if body else []
    return "\n\n".join(parts) + "\n"


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _base_row(summary: Numbers) -> dict[str, str]:
    base = summary["base"]
    return {
        "": "base model",
        "Held-out loss": number(base[HELDOUT], 4),
        "− base": DASH,
        "General text": number(base[RETENTION], 4),
        "− base (general text)": DASH,
        "Training": DASH,
        "With the probe": DASH,
        "Peak memory": DASH,
        "Runs": DASH,
    }


def _row(arm: str, own: Numbers) -> dict[str, str]:
    memory = {key: own["peak_memory_bytes"][key] for key in ("n", "mean", "low", "high")}
    in_gib = {key: value if value is None or key == "n" else value / GIB for key, value in memory.items()}
    return {
        "": arm,
        "Held-out loss": _level(own["heldout"], 4),
        "− base": _with_verdict(own["heldout_from_base"]),
        "General text": _level(own["retention"], 4),
        "− base (general text)": _with_verdict(own["retention_from_base"]),
        "Training": _level(own["training_seconds"], 1, " s"),
        "With the probe": _level(own["total_seconds"], 1, " s"),
        "Peak memory": _level(in_gib, 2, " GiB"),
        "Runs": f"{own['ok']} of {own['runs']}",
    }


def _level(value: Numbers, digits: int, unit: str = "") -> str:
    """Return a mean over seeds with its interval, or that one run has none."""
    if value["mean"] is None:
        return DASH
    return interval(value, digits) + unit + (" (one run)" if value["n"] == 1 else "")


def _with_verdict(found: Numbers) -> str:
    if found["mean"] is None:
        return DASH
    return f"{interval(found, 4, '+')}: {_verdict(found)}"


def _verdict(found: Numbers) -> str:
    """Return the word and, where something hinders it, what."""
    why = reason_in_words(found)
    return f"{found['verdict']} ({why})" if why else found["verdict"]


def _against(arm: str, own: Numbers) -> dict[str, str]:
    against = own["against_std"]
    memory = against.get("peak_memory", {"mean": None})
    return {
        "": f"{arm} against {STD}",
        "Held-out loss": _compared(against.get(HELDOUT_LOSS), 4, "+"),
        "General text": _compared(against.get(RETENTION_LOSS), 4, "+"),
        "Time, ratio": _compared(against.get(TIME), 3),
        "With the probe, ratio": _compared(against.get(TIME_WITH_PROBE), 3),
        "Peak memory, ratio": DASH if memory["mean"] is None else _level(memory, 3),
        "Worth it?": own["worth_it"]["verdict"],
    }


def _compared(found: Numbers | None, digits: int, sign: str = "") -> str:
    """Return a result with its interval, what it is over, and its verdict."""
    if not found or found["mean"] is None:
        return DASH
    rows = f", {count_text(found['rows'], 'row')}" if found["rows"] else ""
    return f"{interval(found, digits, sign)} ({over(found)}{rows}): {_verdict(found)}"


def _trained(arm: str, own: Numbers) -> dict[str, str]:
    adapted, total, parameters = own["layers_adapted"], own["layers_total"], own["trainable_parameters"]
    rate = own["rate"]["value"]
    return {
        "": arm,
        "Layers": DASH if adapted is None else f"{adapted} of {total}",
        "Lowest layer": ", ".join(map(str, own["lowest_layers"])) or DASH,
        "Trained parameters": DASH if parameters is None else f"{parameters:,}",
        "Learning rate": DASH if rate is None else f"{rate:g}" + (" (chosen)" if own["rate"]["tried"] else ""),
        "Seeds": ", ".join(map(str, own["seeds"])) or DASH,
    }


def _rates(summary: Numbers) -> list[str]:
    """Return what is known of rates that were chosen; nothing where none was."""
    lines = [_rate(arm, own["rate"]) for arm, own in summary["arms"].items() if own["rate"]["tried"]]
    return [_list([*lines, _floor(summary)])] if lines else []


def _rate(arm: str, rate: Numbers) -> str:
    tried = ", ".join(f"{each['learning_rate']:g} ({_outcome(each)})" for each in rate["tried"])
    if rate["value"] is None:
        return f"`{arm}`: none, since no trial ended well: {tried}."
    told = f"`{arm}`: {rate['value']:g}, the best of {tried} by the held-out loss at the end of training, one run each"
    if rate["edge"]:
        further = "higher" if rate["edge"] == "highest" else "lower"
        told += f"; the {rate['edge']} that was tried, so a {further} one may be better still"
    if rate["as_good"]:
        told += f"; {', '.join(f'{each:g}' for each in rate['as_good'])} cannot be told from it"
    return f"{told}."


def _outcome(each: Numbers) -> str:
    return number(each["eval_loss"], 4) if each["status"] == "ok" else each["status"]


def _floor(summary: Numbers) -> str:
    floor, nats = summary["floor"], summary["margins"]["nats"]
    if not floor or floor["sd"] is None:
        return (
            f"Noise floor: not known, since {STD} has fewer than two seeds with a loss. Rates within {nats:g} nats of "
            "the best one count as not told from it."
        )
    ends = f"{number(floor['low'], 4)} to {number(floor['high'], 4)}"
    return (
        f"Noise floor: two runs of {STD} that differ in their seed alone differ by an SD of "
        f"{number(floor['sd'], 4)} nats (95 %: {ends}; {count_text(floor['n'], 'run')}). Rates within "
        f"{number(floor['delta'], 4)} nats of the best one, the larger of twice that and the margin, cannot be told "
        "from it."
    )


def _adapter(summary: Numbers) -> list[str]:
    found = summary["recommended"]
    if found is None:
        return []
    seeds = f", the best of {found['seeds']} seeds by {found['chosen_by']}" if found["seeds"] > 1 else ""
    loss = "" if found["heldout_loss"] is None else f" Its held-out loss is {number(found['heldout_loss'], 4)}."
    code = "\n".join(
        [
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            "base = AutoModelForCausalLM.from_pretrained(MODEL)",
            f'model = PeftModel.from_pretrained(base, "{found["adapter"]}")',
            "```",
        ]
    )
    which = f"`{found['adapter']}`: `{found['arm']}`, seed {found['seed']}{seeds}."
    return [f"{which}{loss} MODEL is the folder or the id that was fine-tuned.", code]


def _rules(summary: Numbers) -> str:
    margins = summary["margins"]
    general = "*General text* has nothing to do with your rows, and shows what was unlearnt."
    if summary["base"][RETENTION] is None:
        general = "No loss on general text was asked, so what was unlearnt is not known."
    rules = {
        "Losses": f"cross-entropies a token, in nats, over {rows_name(summary)}; lower is better. {general}",
        "− base": "an adapter and the base model, paired row by row. The interval is over rows and seeds; with one "
        "seed over rows, for that very adapter.",
        "Against standard LoRA": f"runs are paired by seed, and row by row where rows have losses. {STD} has adapters "
        "in all layers, at as many steps unless the campaign says otherwise. Brackets hold 95 % intervals.",
        "Margins": f"{margins['nats']:g} nats of a loss and {margins['time_percent']:g} % of a time do not matter "
        f"(`config/analysis.yaml`; {_stated(margins['stated'])}). *Equivalent*: shown to be within them, by two "
        "one-sided tests. *Better*, *worse*: the 95 % interval leaves out no difference. *Cannot tell*: neither is "
        "shown at this n; of one seed, no comparison of losses is.",
        WORTH_IT.capitalize(): "the held-out loss is lower and the time not shown to be longer, or the loss is "
        "equivalent and the time, probe counted, shorter.",
        NOT_WORTH_IT.capitalize(): "the held-out loss or that of general text is higher, or the loss is equivalent and "
        "no time is saved. Whatever else cannot be told, and standard LoRA is recommended.",
        "Further": "`summary.json` beside this file has every number, `stats/INFERENCE.md` of the study each test.",
    }
    return _list([f"**{title}**: {rule}" for title, rule in rules.items()])


def _stated(when: str) -> str:
    known = {"beforehand": "stated before the first run", "afterwards": "**set after the first run**"}
    return known.get(when, "when they were stated is not known")
