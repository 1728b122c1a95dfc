"""Tables 3 and 4: benchmarks with questions before and after fine-tuning."""

from __future__ import annotations

from typing import Any

from aletheia.analysis.benchmarks import TITLES, questions_shown
from aletheia.analysis.pairs import ALE
from aletheia.analysis.stats import estimate
from aletheia.report.table_parts import Published, flat, label, make_table, models_of, published_cells
from aletheia.report.table_text import Table, interval, marked, marks_of, mean_sd, number
from aletheia.study.published import model_key


def mmlu_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 3: MMLU of base, std and ale, their deltas and the extra, with its interval."""
    numbers, display = [], []
    for campaign, model in models_of(summary, "speed"):
        paper = published[3].get(model_key(model["model"]), {})
        scores = {arm: model["arms"].get(arm, {}).get("benchmarks", {}).get("mmlu") for arm in ("std", "ale")}
        base = next((s["base"] for s in scores.values() if s and s["base"] is not None), None)
        questions = next((s["questions"] for s in scores.values() if s and s["questions"]), None)
        test = model["extra"].get(ALE, {}).get("mmlu")
        extra = test["difference"] if test else estimate([])
        row = {"campaign": campaign["name"], "model": model["model"], "base_percent": base and 100 * base}
        shown = {"Campaign": campaign["name"], "Model": label(model)}
        first = next(filter(None, scores.values()), None)
        shown["Base (%)"] = marked(number(base and 100 * base, 1), marks_of(first, flag="base_flagged"))
        for arm, score in scores.items():
            mean = score["score"]["mean"] if score else None
            percent = None if mean is None else 100 * mean
            delta = score["delta"] if score else estimate([])
            row |= {f"{arm}_percent": percent, **flat(f"{arm}_delta_pp", delta)}
            shown |= {
                f"{arm.title()} (%)": marked(number(percent, 1), marks_of(score)),
                f"{arm.title()} Δ (pp)": marked(mean_sd(delta, 1, "+"), marks_of(score)),
            }
        tested = {"p_value": test["p"] if test else None, "p_holm": test["p_holm"] if test else None}
        numbers.append(
            row
            | {**flat("extra_pp", extra), **tested, "questions": questions}
            | {name: test and test[name] for name in ("flagged", "implausible_base")}
            | published_cells(paper, *MMLU_PUBLISHED)
        )
        shown["Extra (pp) [95 % interval]"] = marked(interval(extra, 1, "+"), marks_of(test))
        shown["Seeds"] = str(extra["n"])
        display.append(shown | {"Questions": number(questions, 0)} | _mmlu_published(paper))
    note = (
        "Δ = fine-tuned − base (mean ± sample SD over the seeds); extra = ale Δ − std Δ, paired by seed; a "
        "negative extra is more forgetting. The interval is over seeds, on the same questions."
    )
    return make_table(3, "MMLU before and after fine-tuning.", note, numbers, display)


# What the paper prints in table 3, and the heads under which it stands beside ours.
MMLU_PUBLISHED = {
    "base_percent": "Paper: base (%)",
    "std_percent": "Paper: std (%)",
    "std_delta_pp": "Paper: std Δ (pp)",
    "ale_percent": "Paper: ale (%)",
    "ale_delta_pp": "Paper: ale Δ (pp)",
    "extra_pp": "Paper: extra (pp)",
}


def _mmlu_published(paper: dict[str, Any]) -> dict[str, str]:
    return {head: number(paper.get(k), 1, "+" if k.endswith("_pp") else "") for k, head in MMLU_PUBLISHED.items()}


def downstream_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 4: the extra (ale − std) on each question benchmark."""
    numbers, display = [], []
    models = list(models_of(summary, "downstream"))
    benchmarks = questions_shown(name for _, model in models for name in model["extra"].get(ALE, {}))
    for campaign, model in models:
        paper = published[4].get(model_key(model["model"]), {})
        row = {"campaign": campaign["name"], "model": model["model"]}
        shown = {"Campaign": campaign["name"], "Model": label(model)}
        for name in benchmarks:
            test = model["extra"].get(ALE, {}).get(name)
            extra = test["difference"] if test else estimate([])
            row |= flat(f"{name}_extra_pp", extra)
            row |= {f"{name}_p_value": test and test["p"], f"{name}_p_holm": test and test["p_holm"]}
            row |= {f"{name}_{part}": test and test[part] for part in ("questions", "flagged", "implausible_base")}
            row |= published_cells(paper, f"{name}_extra_pp")
            seeds = f" (n = {extra['n']})" if extra["n"] else ""
            shown[f"Δ{TITLES[name]} (pp)"] = marked(interval(extra, 2, "+"), marks_of(test)) + seeds
            shown[f"Paper: Δ{TITLES[name]} (pp)"] = number(paper.get(f"{name}_extra_pp"), 2, "+")
        numbers.append(row)
        display.append(shown)
    note = (
        "Aletheia − standard, mean [95 % t-interval over n seeds], paired by seed, on the same questions. "
        "Verdicts, over questions too: FORGETTING_DELTAS_ANALYSIS.md."
    )
    return make_table(4, "Downstream differences, Aletheia − standard LoRA.", note, numbers, display)
