"""What the controls answer, in plain words and by fixed rules: the first paragraph of CONTROLS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.analysis.controls_arms import CONTROL, RANDOM, SAME_LOWEST, SELECTOR
from aletheia.report.table_text import count_text, interval, number
from aletheia.study.arms import STD

ALPHA = 0.05
BETTER, WORSE, CANNOT_TELL, TOO_FEW = "better", "worse", "cannot tell", "too few draws"
_VERDICTS = {
    BETTER: "So its choice is better than a random one",
    WORSE: "So its choice is worse than a random one, which speaks against the paper",
    CANNOT_TELL: "So we cannot tell its choice from a random one: that the gradient finds the better layers, as the "
    "paper says, is not shown here",
    TOO_FEW: "So few draws can never tell a good choice from luck, so we cannot tell",
}
_KINDS = {RANDOM: "random draws of layers", SAME_LOWEST: "random draws that have its lowest layer"}
WHAT = {"layers": "layers", "parameters": "trained parameters", "seconds": "seconds of training"}


def verdict(test: Mapping[str, Any]) -> str:
    """Return what one test, or several together, let one say at :data:`ALPHA`, each side by itself.

    Parameters
    ----------
    test
        With ``p``, ``p_worse`` and ``smallest_p``.
    """
    if test["p"] <= ALPHA:
        return BETTER
    if test["p_worse"] <= ALPHA:
        return WORSE
    return TOO_FEW if test["smallest_p"] > ALPHA else CANNOT_TELL


def p_text(p: float) -> str:
    """Return a p-value with three digits after the point, and small ones as a bound."""
    return f"p = {p:.3f}" if p >= 0.0005 else "p < 0.001"


def broken_claims(campaign: Mapping[str, Any]) -> list[str]:
    """Return one bold sentence for each claim of equal budgets that does not hold, with both numbers."""
    return [
        f"**Not equal: {claim['arm']} says that it has as many {WHAT[claim['what']]} as {claim['of']}, but on "
        f"{model['model']} it has {amount(claim, 'own')} against {amount(claim, 'other')}.**"
        for model in campaign["models"]
        for claim in model["claims"]
        if claim["holds"] is False
    ]


def amount(claim: Mapping[str, Any], side: str) -> str:
    """Return one side of a claim as text: a count, or the share of a standard run's seconds."""
    value = claim[side]
    if value is None:
        return "not known"
    return f"{value:.3f} of a standard run" if claim["what"] == "seconds" else f"{value:,}"


def answer(campaign: Mapping[str, Any]) -> str:
    """Return the first paragraph on a campaign."""
    models = campaign["models"]
    sentences = ["Is it the gradient, or would any choice of as many layers do?"]
    for model in models:
        if model["selector"] is None:
            sentences.append(f"{model['model']} has no arm that chooses by gradient, so this is not answered for it.")
        else:
            sentences += _of_model(model)
    together = [test for test in campaign["combined"] if test["n"] > 1 and test["arm"] in _selectors(models)]
    sentences += [_together(test) for test in together]
    return " ".join(sentences)


def _selectors(models: Sequence[Mapping[str, Any]]) -> set[str]:
    return {model["selector"] for model in models if model["selector"]}


def _of_model(model: Mapping[str, Any]) -> list[str]:
    arm, told = model["selector"], []
    if model["arms"][arm]["loss"]["mean"] is None:
        return [f"On {model['model']}, no run of {arm} ended well, so this cannot be told."]
    tests = [test for test in model["tests"] if test["arm"] == arm]
    told += [_test(model, test) for test in tests]
    if not any(test["against"] == RANDOM for test in tests):
        told.append(f"On {model['model']}, {arm} has fewer than two random draws beside it, so this cannot be told.")
    return [*told, *_others(model), *_equal_seconds(model), *_standard(model)]


def _test(model: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    as_good = test["rank"] - 1
    seeds = count_text(len(test["seeds"]), "seed")
    return (
        f"On {model['model']} ({seeds}), choosing by gradient ({test['arm']}) ended at a held-out loss of "
        f"{number(test['loss'], 4)} nats; {test['draws']} {_KINDS[test['against']]} ended between "
        f"{number(test['draws_min'], 4)} and {number(test['draws_max'], 4)}, on average at "
        f"{number(test['draws_mean'], 4)} (lower is better). {as_good or 'None'} of the {test['draws']} "
        f"{'was' if as_good == 1 else 'were'} as good or better: {p_text(test['p'])}, and no smaller p than "
        f"{test['smallest_p']:.3f} is possible with so many draws. {_VERDICTS[verdict(test)]}."
        + _over_seeds(model["arms"][test["arm"]].get("to_draws") if test["against"] == RANDOM else None)
    )


def _over_seeds(found: Mapping[str, Any] | None) -> str:
    """Return what the seeds say of the difference from the draws' mean, where there are several; else nothing."""
    if not found or found["low"] is None:
        return ""
    return (
        f" From the mean of the draws it differs by {interval(found, 4, '+')} nats (95 % over "
        f"{count_text(found['n'], 'seed')}, which vary rows and starting values, and draws, but hardly its own choice)."
    )


def _together(test: Mapping[str, Any]) -> str:
    return (
        f"Over the {test['n']} headline models together, against {_KINDS[test['against']]}, {test['arm']} has "
        f"{p_text(test['p'])} (smallest possible: {test['smallest_p']:.2g}). {_VERDICTS[verdict(test)]}."
    )


def _others(model: Mapping[str, Any]) -> list[str]:
    """Say which other ways of choosing, that had a test too, ended lower than the named one."""
    named = next((test for test in model["tests"] if test["arm"] == model["selector"]), None)
    kinds = (SELECTOR, CONTROL)
    others = [
        test
        for test in model["tests"]
        if test["against"] == RANDOM and named and test["arm"] != named["arm"]
        if model["arms"][test["arm"]]["kind"] in kinds and test["seeds"] == named["seeds"]
    ]
    if not others:
        return []
    lower = sorted((test for test in others if test["loss"] < named["loss"]), key=lambda test: test["loss"])
    listed = ", ".join(f"{test['arm']} {number(test['loss'], 4)}" for test in lower[:3])
    further = f" and {len(lower) - 3} more" if len(lower) > 3 else ""
    found = f" ({listed}{further})" if lower else ""
    return [
        f"Of {len(others)} other ways to choose as many layers, {len(lower) or 'none'} ended lower{found}; "
        "whether one beats another is not tested here."
    ]


def _equal_seconds(model: Mapping[str, Any]) -> list[str]:
    """Say what arms of equal seconds gave, where there are such and they hold."""
    about = [claim for claim in model["claims"] if claim["what"] == "seconds" and claim["holds"]]
    return [
        f"At equal seconds, {claim['arm']} against {claim['of']}: {_difference(claim['loss_difference'])}."
        for claim in about
        if model["selector"] in (claim["arm"], claim["of"])
    ]


def _standard(model: Mapping[str, Any]) -> list[str]:
    arm = model["selector"]
    found, told = model["arms"][arm]["to_std"], []
    if found["mean"] is not None:
        told.append(f"Against standard LoRA on all layers ({STD}) at the steps as run, {arm}: {_difference(found)}.")
    reached = model["arms"][arm]["time_to_std_loss"]
    if reached is None:
        return told
    if not reached["n"]:
        return [*told, f"Its held-out loss never reached {STD}'s last one ({count_text(reached['planned'], 'seed')})."]
    return [
        *told,
        f"It reached {STD}'s last loss after {number(reached['mean'], 2)} of a standard run's time, its probe counted "
        f"({reached['n']} of {count_text(reached['planned'], 'seed')}; times {model['clock']}).",
    ]


def _difference(found: Mapping[str, Any]) -> str:
    """Return a difference of losses with its interval and n, and what follows from it."""
    if found["mean"] is None:
        return "not known"
    if found["low"] is None:
        return f"{number(found['mean'], 4, '+')} nats (one seed, so no interval: cannot tell)"
    means = "cannot tell" if found["low"] <= 0 <= found["high"] else "lower" if found["high"] < 0 else "higher"
    return f"{interval(found, 4, '+')} nats (95 % interval over {count_text(found['n'], 'seed')}: {means})"
