"""The first paragraph of REPORT.md: did it help, was it worth it, which adapter; and what these runs cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.analysis.effects import HELDOUT_LOSS, TIME_WITH_PROBE
from aletheia.analysis.fit_summary import TEST
from aletheia.analysis.frontier import BY_CLOCK
from aletheia.analysis.verdicts import BETTER, CANNOT_TELL, EQUIVALENT, OVER_QUESTIONS, WORSE
from aletheia.report.table_text import count_text, number
from aletheia.study.arms import STD

TELLS_NOTHING = 10  # times as long: two seeds whose times differ give such intervals
FEW_ROWS = 100  # fewer rows than this are named among what a report cannot say
_HELPED = {
    BETTER: "**Fine-tuning helped**",
    WORSE: "**Fine-tuning made it worse**",
    EQUIVALENT: "**Fine-tuning changed next to nothing**",
    CANNOT_TELL: "**Whether fine-tuning helped cannot be told**",
}
Numbers = Mapping[str, Any]


def rows_name(summary: Numbers) -> str:
    """Return what the rows that judge are called: test rows, which chose nothing, or held-out rows."""
    return "test rows" if summary["split"] == TEST else "held-out rows"


def answer(summary: Numbers) -> str:
    """Return the first paragraph.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.fit_summary.summarise_fit`.
    """
    others = [arm for arm in summary["arms"] if arm != STD]
    sentences = [_helped(summary), *(_worth(arm, summary["arms"][arm]) for arm in others)]
    if not others:
        sentences.append("No other arm than standard LoRA was trained, so nothing is said of choosing layers.")
    return " ".join([*sentences, _use(summary), *_one_seed(summary), *_lower_at_hand(summary)])


def _helped(summary: Numbers) -> str:
    arm = summary["verdict"]["helped"]["arm"]
    if arm is None:
        return "No run ended well, so nothing can be said."
    found = summary["arms"][arm]["heldout_from_base"]
    if found["mean"] is None:
        return f"Whether fine-tuning helped is not known: no row has a loss of both the base model and `{arm}`."
    return (
        f"{_HELPED[found['verdict']]}: on {found['n']} {rows_name(summary)} the loss of `{arm}` is "
        f"{nats(found)} than the base model's ({over(found)})."
    )


def nats(found: Numbers) -> str:
    """Return a difference of losses in words: "0.0130 nats higher (95 %: 0.0020 lower to 0.0280 higher)"."""
    return _in_words(found, lambda value: (number(abs(value), 4), "lower" if value < 0 else "higher"), "nats ")


def less_time(found: Numbers) -> str:
    """Return a ratio of times in words: "14.0 % less time (95 %: 8.0 to 18.0 less)"."""

    def words(ratio: float) -> tuple[str, str]:
        return number(100 * abs(1 - ratio), 1), "less" if ratio < 1 else "more"

    if found["low"] is not None and found["low"] < 1 and found["high"] > TELLS_NOTHING:
        size, side = words(found["mean"])
        return f"{size} % {side} time (the 95 % interval goes beyond {TELLS_NOTHING} times as long and tells nothing)"
    return _in_words(found, words, "% ", noun=" time")


def _in_words(found: Numbers, words: Any, unit: str, *, noun: str = "") -> str:
    value, side = words(found["mean"])
    mean = f"{value} {unit}{side}{noun}"
    if found["low"] is None:
        return mean
    ends = [words(found[end]) for end in ("low", "high")]
    if ends[0][1] == ends[1][1]:
        # The smaller one first, whichever side it is on.
        small, large = sorted((size for size, _ in ends), key=float)
        return f"{mean} (95 %: {small} to {large} {side})"
    return f"{mean} (95 %: {' to '.join(f'{size} {word}' for size, word in ends)})"


def over(found: Numbers) -> str:
    """Return what an interval is over: "3 seeds", "one seed"."""
    if found.get("over") == "rounds":
        return f"{count_text(found['n'], 'round')} of one seed"
    return "one seed" if found["seeds"] == 1 else count_text(found["seeds"], "seed")


def _worth(arm: str, own: Numbers) -> str:
    verdict, against = own["worth_it"], own["against_std"]
    said = f"`{arm}` in place of standard LoRA on all layers: **{verdict['verdict']}**; {verdict['reason']}."
    loss, time = (against.get(measure, {}) for measure in (HELDOUT_LOSS, TIME_WITH_PROBE))
    parts = []
    if loss.get("mean") is not None:
        parts.append(f"ended {nats(loss)} than `{STD}` ({over(loss)})")
    if time.get("mean") is not None:
        parts.append(f"took {less_time(time)}, its probe counted ({over(time)}; {time['clock']})")
    return said + (f" It {' and '.join(parts)}." if parts else "")


def _use(summary: Numbers) -> str:
    found = summary["recommended"]
    if found is None:
        return f"No adapter is recommended: {summary['why_recommended']}."
    return f"Use `{found['adapter']}` (`{found['arm']}`, seed {found['seed']}): {summary['why_recommended']}."


def _one_seed(summary: Numbers) -> list[str]:
    if any(len(own["seeds"]) > 1 for own in summary["arms"].values()) or summary["recommended"] is None:
        return []
    return [
        "Each arm ran once: that says how these very adapters do on further rows like these, and nothing of what "
        "another seed would give."
    ]


def _lower_at_hand(summary: Numbers) -> list[str]:
    """Name the adapter of one seed that is not recommended, and yet lower on these rows by more than the margin."""
    margin = summary["margins"]["nats"]
    lower = {
        arm: found["mean"]
        for arm, own in summary["arms"].items()
        if (found := own["against_std"].get(HELDOUT_LOSS)) and found["over"] == OVER_QUESTIONS
        if found["high"] < -margin and own["worth_it"]["verdict"] == CANNOT_TELL
    }
    if not lower or summary["recommended"] is None:
        return []
    arm = min(lower, key=lambda name: lower[name])
    return [f"Of these very adapters that of `{arm}` has the lower loss on rows like these, whatever other seeds give."]


def cannot_say(summary: Numbers) -> list[str]:
    """Return what these runs cannot say, a sentence each."""
    arms = summary["arms"]
    others = [own for arm, own in arms.items() if arm != STD]
    return [
        *_seeds(arms),
        *_rows(summary),
        *_times(arms, others),
        *_failed(arms),
        *([f"No {STD} was trained, so that no arm was held against anything."] if STD not in arms else []),
        *([f"{len(others)} arms were each held against {STD}, without a correction."] if len(others) > 1 else []),
        *_best_seed(summary),
        "Loss on rows like yours is no measure of how useful answers are: read some, and ask your own questions.",
        "Other data, other lengths of training and other models are other questions.",
    ]


def _seeds(arms: Mapping[str, Numbers]) -> list[str]:
    most = max((len(own["seeds"]) for own in arms.values()), default=0)
    if most == 1:
        return [
            "One seed: two runs of one arm that differ in their seed alone differ too, by how much is not known here. "
            "So no arm is called better or worse; three make it a comparison: "
            "`seeds: [42, 123, 999]` in campaign.yaml (at the start: `--seeds 3`)."
        ]
    return ["Two seeds: intervals over them are very wide; a third one narrows them most."] if most == 2 else []


def _rows(summary: Numbers) -> list[str]:
    """Say that rows are few, and what difference they would have shown."""
    arms = summary["arms"]
    rows = next((own["heldout"]["rows"] for own in arms.values() if own["heldout"]["rows"]), None)
    told = []
    if rows is not None and rows < FEW_ROWS:
        told.append(f"{rows} rows are few: other rows of the same kind move the losses within the intervals.")
    for arm, own in arms.items():
        result = own["against_std"].get(HELDOUT_LOSS, {})
        if result.get("detectable") is not None and result["verdict"] == CANNOT_TELL and len(own["seeds"]) > 1:
            told.append(
                f"`{arm}`: a true difference of {number(result['detectable'], 4)} nats from {STD} would have been "
                f"found with a probability of {100 * summary['margins']['power']:.0f} %, a smaller one less often."
            )
    return told


def _times(arms: Mapping[str, Numbers], others: Sequence[Numbers]) -> list[str]:
    told = []
    busy, resumed = (sum(own[key] for own in arms.values()) for key in ("busy", "resumed"))
    runs = sum(own["ok"] for own in arms.values())
    if busy:
        told.append(f"{busy} of {count_text(runs, 'run')} were timed on a busy machine; these times count like others.")
    if resumed:
        told.append(f"{count_text(resumed, 'run')} went on after a stop; such times are not compared.")
    if any(own["against_std"].get(TIME_WITH_PROBE, {}).get("clock") == BY_CLOCK for own in others):
        told.append(
            "Times are those of whole runs, one after another: what changed on the machine in between is in them. "
            "`speed: turns` in campaign.yaml times arms in turns."
        )
    return told


def _failed(arms: Mapping[str, Numbers]) -> list[str]:
    failed = [f"`{arm}` ({', '.join(own['failures'])})" for arm, own in arms.items() if own["failures"]]
    return [f"Runs that did not end well: {'; '.join(failed)}."] if failed else []


def _best_seed(summary: Numbers) -> list[str]:
    found = summary["recommended"]
    if found is None or found["seeds"] < 2 or summary["split"] == TEST:
        return []
    return [f"The adapter is the best of {found['seeds']} seeds by the rows that judge, so its own loss is too good."]
