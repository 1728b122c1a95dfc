"""The two written analyses, from numbers alone: each verdict with its interval, its n and its rule."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aletheia.analysis import verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.report.table_text import (
    DASH,
    FLOOR,
    FLOOR_NOTE,
    interval,
    mark_floor,
    markdown_rows,
    mean_sd,
    number,
    p_value,
)
from aletheia.study.arms import STD

PAIRS = "*Pairs*: those with a value, of those planned; a pair with a failed run is lost, and stands below."


def _campaigns(summary: dict[str, Any], report: str) -> list[dict[str, Any]]:
    return [c for c in summary["campaigns"] if report in c["reports"]]


def _rules(rules: tuple[str, ...]) -> str:
    return "## The rule\n\n" + "".join(f"- {rule}\n" for rule in rules)


def _rows(rows: list[dict[str, str]], otherwise: str) -> str:
    return markdown_rows(pd.DataFrame(rows)) if rows else f"{otherwise}\n"


def _failed_runs(campaigns: list[dict[str, Any]]) -> str:
    """Return the section on failed runs, each with its reason."""
    lines = [
        f"- {c['name']}: {run['model']}/{run['arm']}/seed{run['seed']}: {run['status']}"
        + (f" ({run['reason']})" if run["reason"] else "")
        for c in campaigns
        for run in c["runs"]["failed"]
    ]
    rows, ended = sum(c["runs"]["rows"] for c in campaigns), sum(c["runs"]["ok"] for c in campaigns)
    text = f"## Runs\n\n{ended} of {rows} runs ended well.\n"
    return text + ("\nThe others are in no mean above:\n\n" + "\n".join(lines) + "\n" if lines else "")


def _floor_note(rows: list[dict[str, str]]) -> str:
    """Return the sentence on the mark of the floor, where a row has it."""
    return f" {FLOOR_NOTE}" if any(FLOOR in cell for row in rows for cell in row.values()) else ""


def _tally(words: list[str]) -> str:
    counts = pd.Series(words, dtype="str").value_counts(sort=False)
    return "; ".join(f"{word}: {count}" for word, count in counts.items())


def _by_arm(words: dict[str, list[str]], compared: str) -> str:
    """Return one line an arm with the number of comparisons and of each verdict; empty without any."""
    lines = (f"- {arm}: of {len(of_arm)} ({compared}), {_tally(of_arm)}." for arm, of_arm in words.items())
    return "\n".join(lines)


def forgetting_deltas(summary: dict[str, Any]) -> str:
    """Return FORGETTING_DELTAS_ANALYSIS.md: each benchmark's change by fine-tuning, and each arm's beyond std's."""
    campaigns = _campaigns(summary, "downstream")
    deltas, extras, words = [], [], {}
    for campaign in campaigns:
        for model in campaign["models"]:
            deltas += _delta_rows(campaign, model)
            for arm, tests in model["extra"].items():
                words.setdefault(arm, []).extend(verdicts.forgetting(test) for test in tests.values())
                extras += _extra_rows(campaign["name"], model, arm)
    answer = (
        _by_arm(words, "model × benchmark")
        or "No benchmark of questions was measured in std and another arm: nothing to say of extra forgetting."
    )
    arms = (arm for campaign in campaigns for model in campaign["models"] for arm in model["arms"].values())
    evaluated = {name for arm in arms for name in arm["benchmarks"]}
    return (
        "# Forgetting deltas\n\n"
        f"{answer}\n\n"
        "Delta = fine-tuned − base, extra = delta of an arm − delta of std, in percentage points; a negative "
        "extra is more forgetting than under std.\n\n"
        f"{_rules(verdicts.forgetting_rules(evaluated))}\n"
        "## Extra, each arm − std\n\n"
        f"{_rows(extras, 'No benchmark of questions in this study.')}\n"
        "p: paired t-test over the seeds; Holm's correction runs over the headline models of one arm and benchmark. "
        f"{PAIRS} "
        "*Questions alone* is the 95 % half-width that drawing questions puts on a difference of two scores, "
        f"as an upper bound.{_floor_note(extras)}\n\n"
        "## Deltas, fine-tuned − base\n\n"
        f"{_rows(deltas, 'Nothing was evaluated.')}\n"
        "Held-out loss is in nats, where a negative delta is an improvement; the others are in points. "
        f"Mean ± sample SD over the seeds.{_floor_note(deltas)}\n\n"
        f"{_failed_runs(campaigns)}"
    )


def _extra_rows(campaign: str, model: dict[str, Any], arm: str) -> list[dict[str, str]]:
    return [
        {
            "Model": model["model"],
            "Campaign": campaign,
            "Arm": arm,
            "Benchmark": TITLES[name],
            "Extra (pp) [95 % interval]": mark_floor(interval(test["difference"], 2, "+"), test["flagged"]),
            "Pairs": _pairs(test),
            "Questions": str(test["questions"]),
            "Questions alone (pp)": f"± {number(test['sampling_half_width_pp'], 1)}",
            "p": p_value(test["p"]),
            "p (Holm)": p_value(test["p_holm"]),
            "Verdict": verdicts.forgetting(test),
        }
        for name, test in model["extra"].get(arm, {}).items()
    ]


def _pairs(test: dict[str, Any]) -> str:
    return f"{test['difference']['n']} of {test['planned']}"


def _delta_rows(campaign: dict[str, Any], model: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for arm, measured in model["arms"].items():
        for name, score in measured["benchmarks"].items():
            points = score["unit"] == "pp"
            base = score["base"] if score["base"] is None or not points else 100 * score["base"]
            of_base = number(base, 1 if points else 3) + (" %" if points and base is not None else "")
            rows.append(
                {
                    "Model": model["model"],
                    "Campaign": campaign["name"],
                    "Arm": arm,
                    "Benchmark": TITLES[name],
                    "Base": mark_floor(of_base, score["base_flagged"]),
                    "Delta": mark_floor(mean_sd(score["delta"], 1 if points else 3, "+"), score["flagged"]),
                    "Seeds": str(score["delta"]["n"]),
                }
            )
    return rows


def compute_matched(summary: dict[str, Any]) -> str:
    """Return COMPUTE_MATCHED_ANALYSIS.md: the loss when the saved time is used for more steps."""
    campaigns = _campaigns(summary, "compute_matched")
    losses, extras, words = [], [], {}
    for campaign in campaigns:
        for model in campaign["models"]:
            for arm, cm in model["compute_matched"].items():
                words.setdefault(arm, []).append(verdicts.matched_loss(cm["eval_loss"], cm["time_share"]))
                losses.append(_loss_row(campaign["name"], model, arm))
                extras += _extra_rows(campaign["name"], model, arm)
    answer = (
        _by_arm(words, "held-out loss of one model, against std")
        or "No model has both a std and a cm run, so nothing can be said at equal compute."
    )
    return (
        "# Compute-matched analysis\n\n"
        f"{answer}\n\n"
        "A compute-matched arm trains for more steps than std, so as to use the time that std uses: cm trains the "
        "layers that ale trains. Here it is cm, and every other arm whose steps exceed std's.\n\n"
        f"{_rules(verdicts.LOSS_RULES)}\n"
        "## Held-out loss and time\n\n"
        f"{_rows(losses, 'No pairs.')}\n"
        f"p: paired t-test over the seeds, Holm-adjusted over the headline models of one arm. {PAIRS}\n\n"
        "## Benchmarks, extra over std\n\n"
        f"{_rows(extras, 'No benchmark of questions in this study.')}\n"
        f"The verdicts follow the rule for forgetting: {verdicts.FORGETTING_MARGIN} "
        "A loss can differ where no benchmark does, and the reverse; neither stands for the other."
        f"{_floor_note(extras)}\n\n"
        f"{_failed_runs(campaigns)}"
    )


def _loss_row(campaign: str, model: dict[str, Any], arm: str) -> dict[str, str]:
    cm, share = model["compute_matched"][arm], model["compute_matched"][arm]["time_share"]
    steps = [model["arms"][name]["steps"]["mean"] for name in (STD, arm)]
    return {
        "Model": model["model"],
        "Campaign": campaign,
        "Arm": arm,
        "std loss (nats)": mean_sd(cm["std_eval_loss"], 3),
        "Arm's loss (nats)": mean_sd(cm["cm_eval_loss"], 3),
        "Arm − std [95 % interval]": interval(cm["eval_loss"]["difference"], 3, "+"),
        "Pairs": _pairs(cm["eval_loss"]),
        "p (Holm)": p_value(cm["eval_loss"]["p_holm"]),
        "Steps std / arm": " / ".join(DASH if s is None else f"{s:.0f}" for s in steps),
        "Time arm / std": f"{interval(share, 2)} ({cm['time_taken']})",
        "Compute": verdicts.time(share),
        "Verdict": verdicts.matched_loss(cm["eval_loss"], share),
    }
