"""The findings of a study, in six sentences written from its numbers: FINDINGS.md.

Each sentence claims only what its interval supports, and says so where something was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.analysis import arms, verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.effects import HELDOUT_LOSS, RETENTION_LOSS
from aletheia.analysis.time_to_loss import RATIO
from aletheia.report.finding_scopes import (
    Scope,
    estimate_text,
    first_with,
    main_scopes,
    matched_scopes,
    result_text,
    telling_extras,
    time_share,
)
from aletheia.report.open_questions import open_questions
from aletheia.study.arms import STD
from aletheia.study.benchmarks import QUESTION_BENCHMARKS

_MAX_NAMED = 4  # controls that are named; of more than these, the lowest and the highest
_NO_PAIR = "No seed has both std and another arm, so there is nothing to compare."


def findings(summary: Mapping[str, Any]) -> list[str]:
    """Return six sentences (each may be several): speed, loss, time to a loss, choices of layers, forgetting, the rest.

    Each begins with its scope: all headline models where at least three have the arm, else the first of them; in the
    first campaign that measured it.

    Parameters
    ----------
    summary
        What :func:`aletheia.analysis.summary.summarise` returned.

    Returns
    -------
    list of str
        Empty without a pair of std and another arm.
    """
    scopes = main_scopes(summary)
    if not scopes:
        return []
    speed = first_with(scopes, lambda scope: scope.has(arms.TURNS) or scope.has(arms.WALL_CLOCK))
    margins = summary["plan"]["margins"]
    loss = first_with(scopes, lambda scope: scope.has(arms.LOSS))
    time_to_loss = first_with(scopes, lambda scope: scope.has(RATIO))
    controlled = first_with(scopes, Scope.controls)
    forgetting = first_with(scopes, lambda scope: scope.effect(RETENTION_LOSS) or telling_extras(scope))
    return [
        f"**Speed** ({speed.name}). {_speed(speed, margins['time_percent'])}",
        f"**Loss at equal steps** ({loss.name}). {_loss(loss, margins['nats'])}",
        f"**Loss at equal time** ({time_to_loss.name}). {_time_to_loss(time_to_loss, margins['time_percent'])} "
        f"{_equal_compute(summary, time_to_loss)}",
        f"**Against other choices of layers** ({controlled.name}). {_controls(controlled, margins['nats'])}",
        f"**Forgetting** ({forgetting.name}). {_forgetting(forgetting, margins)}",
        f"**What cannot be told.** {open_questions(summary, scopes)}",
    ]


def findings_text(summary: Mapping[str, Any]) -> str:
    """Return FINDINGS.md."""
    lines = [f"{number}. {sentence}\n" for number, sentence in enumerate(findings(summary), start=1)]
    late = [campaign["name"] for campaign in summary["campaigns"] if campaign["margins"] == "afterwards"]
    mark = f"\nMargins set afterwards: {summary['plan']['path']} changed after the first run of {', '.join(late)}.\n"
    return "# What was found\n\n" + ("".join(lines) or f"{_NO_PAIR}\n") + (mark if lines and late else "")


def _speed(scope: Scope, margin_percent: float) -> str:
    """Return the sentence on speed: in turns, beside std against itself, or by the wall clock; then with the probe."""
    turns, arm = scope.has(arms.TURNS), scope.arm
    names = (arms.TURNS, arms.TURNS_WITH_PROBE) if turns else (arms.WALL_CLOCK, arms.WALL_CLOCK_WITH_PROBE)
    speedup, with_probe = (scope.of(name) for name in names)
    failed = "" if turns or scope.of(arms.TURNS) is None else " (no measurement in turns ended well)"
    if speedup is None or speedup["mean"] is None:
        return f"No pair of {arm} and std has times that can be compared{failed}."
    same = scope.of(arms.SAME_ARM, STD) if turns else None
    how = "In turns" if turns else f"By the wall clock{failed}"
    said = _faster(arm, verdicts.speed(speedup, same, margin_percent), margin_percent)
    parts = [f"{how} {said}: speedup {estimate_text(speedup, '%')}"]
    if same is not None and same["mean"] is not None:
        parts.append(f"std against itself {estimate_text(same, '%')}")
    if scope.has("probe_share_percent") and scope.of("probe_share_percent")["mean"]:
        said = _faster(arm, verdicts.speed(with_probe, same, margin_percent), margin_percent)
        parts.append(f"with the probe counted {said}: {estimate_text(with_probe, '%')}")
    if turns and scope.has(arms.WALL_CLOCK):
        parts.append(f"by the wall clock of its runs {estimate_text(scope.of(arms.WALL_CLOCK), '%')}")
    return "; ".join(parts) + "."


def _faster(arm: str, verdict: str, margin_percent: float) -> str:
    if verdict in ("faster", "slower"):
        return f"{arm} is {verdict} than std"
    if verdict == verdicts.EQUIVALENT:
        return f"{arm} is as fast as std, within {margin_percent:g} %"
    why = " (std differs as much from itself)" if verdict.endswith("itself") else ""
    return f"it cannot be told whether {arm} is faster than std{why}"


_ENDS = {
    verdicts.BETTER: "better than std",
    verdicts.WORSE: "worse than std",
    verdicts.EQUIVALENT: "equivalent to std",
}


def _loss(scope: Scope, margin: float) -> str:
    arm, result = scope.arm, scope.effect(HELDOUT_LOSS)
    if few := scope.too_few(HELDOUT_LOSS):
        return f"The held-out loss of {arm} and std is known {_in_few(scope, few)}."
    if result is None:
        return f"No pair of {arm} and std has a held-out loss."
    steps = scope.of("steps_ratio")
    if (steps["mean"], steps["sd"] or 0) != (1, 0):
        return f"{arm} took other numbers of steps than std, so nothing is said at equal steps."
    return f"After equal steps {_final_loss(arm, result)}: {_loss_difference(arm, result)}. {_margin(result, margin)}"


def _in_few(scope: Scope, few: int) -> str:
    return f"in {few} of {len(scope.models)} models only, too few for a mean over models"


def _margin(result: Mapping[str, Any], margin: float) -> str:
    late = ", set afterwards" if result["verdict"]["margins"] == "afterwards" else ""
    return f"The margin is ±{margin:g} nats{late}."


def _final_loss(arm: str, result: Mapping[str, Any]) -> str:
    ends = _ENDS.get(result["verdict"]["verdict"])
    return f"{arm} ends {ends}" if ends else f"it cannot be told whether {arm} ends better or worse than std"


def _loss_difference(arm: str, result: Mapping[str, Any]) -> str:
    """Return arm − std in nats, and as the change of perplexity, 100·(e^d − 1) %."""
    nats = {end: result[end] for end in ("mean", "low", "high")}
    percent = {end: None if d is None else 100 * math.expm1(d) for end, d in nats.items()}
    change = estimate_text({**result, **percent}, "%", sign="+", alone=False)
    return f"held-out loss, {arm} − std, {result_text(result, 'nats', beside=f'; perplexity {change}')}"


def _time_to_loss(scope: Scope, margin_percent: float) -> str:
    """Return the sentence on the time in which the arm reached std's final loss, and the seeds in which it did not."""
    ratio, arm = scope.of(RATIO), scope.arm
    if ratio is None:
        return (
            "The time to the loss that std ends at is not known: no losses were taken on the way, or no std run has "
            "comparable times."
        )
    of_models = scope.by_model(RATIO)
    planned = f"{sum(measures[RATIO]['planned'] for measures in of_models)} planned seeds"
    # Pairs without comparable times have no value either, but they may have reached the loss.
    never = sum(measures[RATIO]["lost"] - measures[arms.WALL_CLOCK_WITH_PROBE]["lost"] for measures in of_models)
    if ratio["mean"] is None:
        return f"{arm} reached the loss that std ends at in none of {planned}, as far as losses were taken on the way."
    word, _ = verdicts.of_estimate(verdicts.from_one(ratio), margin_percent / 100, higher_is_better=False)
    when = {
        verdicts.BETTER: "sooner than std",
        verdicts.WORSE: "later than std",
        verdicts.EQUIVALENT: f"as soon as std, within {margin_percent:g} %",
    }.get(word)
    when = when or "but it cannot be told whether sooner or later than std"
    reached = f"{arm} reached the loss that std ends at, {when}"
    missed = f"in {never} of {planned} it never did" + (" (not in the mean)" if never else "")
    share = estimate_text(ratio, "of the time of std", beside="; geometric mean")
    return f"{reached}: after {share}, probe counted, by the wall clock; {missed}."


def _equal_compute(summary: Mapping[str, Any], beside: Scope) -> str:
    """Return the sentence on the compute-matched arm's loss, where its time is known to match std's."""
    scopes = matched_scopes(summary)
    if not scopes:
        return "No arm was matched in compute."
    scope = first_with(scopes, lambda scope: scope.has(arms.LOSS))
    arm, result, (share, how) = scope.arm, scope.effect(HELDOUT_LOSS), time_share(scope)
    of = arm if scope.name == beside.name else f"{arm} ({scope.name})"
    if few := scope.too_few(HELDOUT_LOSS):
        return f"Of {of}, the compute-matched arm, the loss is known {_in_few(scope, few)}."
    if result is None or share["mean"] is None:
        return f"Of {of}, the compute-matched arm, no pair has both a loss and a time."
    took = f"The compute-matched arm {of} took {estimate_text(share, 'of the time of std')}, {how}"
    verdict = verdicts.time(share, summary["plan"]["margins"]["time_percent"])
    if verdict == verdicts.MATCHED:
        return f"{took}, which matches: {_final_loss(arm, result)}, {_loss_difference(arm, result)}."
    reason = "is not known to match" if verdict.startswith("cannot") else f"does not match ({verdict})"
    return f"{took}: compute {reason}, so its loss says nothing at equal compute."


def _controls(scope: Scope, margin: float) -> str:
    """Return the sentence on the arm against arms with other choices of layers."""
    arm, controls = scope.arm, scope.controls()
    results = {name: scope.effect(HELDOUT_LOSS, reference=name) for name in controls}
    with_loss = {name: each for name, each in controls.items() if results[name] is not None}
    if not with_loss:
        few = max((scope.too_few(HELDOUT_LOSS, reference=name) for name in controls), default=0)
        if few:
            return f"The loss of {arm} and of another choice of layers is known {_in_few(scope, few)}."
        if controls:
            return (
                f"No seed has a loss of {arm} and of another choice of layers, so what its own is worth is not known."
            )
        return (
            "No other arm trains some of the layers for as many steps (random, last, …), so what the selection of "
            f"{arm} is worth is not known."
        )
    words = {name: _against(results[name], margin) for name in with_loss}
    answers = [
        f"{word} {_list_names([n for n, w in words.items() if w == word])}" for word in dict.fromkeys(words.values())
    ]
    ends = sorted(with_loss, key=lambda name: results[name]["mean"])
    few = len(with_loss) <= _MAX_NAMED
    details = "; ".join(
        _against_one(name, results[name], with_loss[name]) for name in (with_loss if few else (ends[0], ends[-1]))
    )
    return f"{arm} {', '.join(answers)}. Difference of {arm}: {'' if few else 'from the lowest, '}{details}."


def _against(result: Mapping[str, Any], margin: float) -> str:
    return {
        verdicts.EQUIVALENT: f"has an equivalent loss, within ±{margin:g} nats, to",
        verdicts.BETTER: "has a lower loss than",
        verdicts.WORSE: "has a higher loss than",
    }.get(result["verdict"]["verdict"], "is not told apart in loss from")


def _against_one(name: str, result: Mapping[str, Any], measures: Mapping[str, Any]) -> str:
    speed, how = measures.get(arms.TURNS_WITH_PROBE), "in turns"
    if speed is None:
        speed, how = measures[arms.WALL_CLOCK_WITH_PROBE], "by the wall clock"
    time = "no comparable times"
    if speed["mean"] is not None:
        time = f"speedup {estimate_text(speed, '%')} {how}, probe counted"
    return f"{name} {result_text(result, 'nats')}, {time}"


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _forgetting(scope: Scope, margins: Mapping[str, Any]) -> str:
    """Return the sentences on the loss on general text, and on benchmarks whose base is above guessing."""
    arm, parts = scope.arm, []
    if scope.has(arms.RETENTION_FROM_BASE, STD):
        base = scope.of(arms.RETENTION_FROM_BASE, STD)
        change = estimate_text(base, "nats", sign="+")
        parts.append(f"Training std {_direction(base)} the loss on general text: {change}.")
    result = scope.effect(RETENTION_LOSS)
    if result is not None:
        where = "There" if parts else "On general text"
        parts.append(f"{where} {_final_loss(arm, result)}: {arm} − std {result_text(result, 'nats')}.")
        parts.append(_margin(result, margins["nats"]))
    of_each = [
        f"{TITLES[name]} {result_text(each, 'points')}: {verdicts.text(each['verdict'])}"
        for name, each in telling_extras(scope).items()
    ]
    if of_each:
        beyond = f"Change of {arm} beyond that of std (negative is more forgetting)"
        parts.append(f"{beyond}: {'; '.join(of_each)}. The margin is ±{margins['verdict_points']:g} points.")
    rare = {TITLES[name]: few for name in QUESTION_BENCHMARKS if (few := scope.too_few(name))}
    parts += [f"{title} tells something {_in_few(scope, few)}." for title, few in rare.items()]
    if few := scope.too_few(RETENTION_LOSS):
        parts.append(f"The loss on general text is known {_in_few(scope, few)}.")
    return " ".join(parts) or f"Nothing that could be forgotten was measured{_at_floor(scope)}."


def _at_floor(scope: Scope) -> str:
    tests = [item for model in scope.models for item in model["extra"].get(scope.arm, {}).items()]
    implausible = {name for name, test in tests if test["implausible_base"]}
    guessed = {name for name, test in tests if not test["base_above_floor"]} - implausible
    why = [("base at the floor", guessed), ("base implausible", implausible)]
    told = [
        f"{reason}: {', '.join(t for name, t in TITLES.items() if name in found)}" for reason, found in why if found
    ]
    return f" ({'; '.join(told)})" if told else ""


def _direction(change: Mapping[str, Any]) -> str:
    if change["low"] is None or change["low"] <= 0 <= change["high"]:
        return "is not known to have changed"
    return "raised" if change["low"] > 0 else "lowered"
