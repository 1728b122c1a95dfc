"""Every rule behind a verdict, as text for the written analyses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.analysis.benchmarks import FACTS, questions_shown
from aletheia.report.effects_text import measure_name

# One rule a paragraph.
_RULES = """
The margins stand in `{path}` (sha256 `{sha256}`): {points} points of a benchmark (verdicts take {verdict_points:g}),
{nats:g} nats of a loss, {time_percent:g} % of a time. {when}

*Equivalent*: both one-sided t-tests reject at 5 % (TOST), so the 90 % interval lies within the margin.

*Better* or *worse*: the two-sided p is below 5 %, so the 95 % interval leaves out 0. Equivalent comes first.

In a family of tests both take the p corrected over it, so that a result may be *cannot tell* though its own interval
suffices.

*Cannot tell*: neither. That no difference was found is no finding.

One model: the interval is over its seeds and, where answers to single questions are known, its questions. The paired
difference of each question, clustered by subject (Miller 2024, arXiv:2411.00640), and the variance over seeds, less
what both count (two-way random effects); degrees of freedom between those of seeds and of subjects, by their shares of
the variance (never more than Satterthwaite's). Rows of text are questions too, weighted by their tokens. One seed has
an interval over its questions, from which no verdict on other runs follows, or over the rounds in which its arms took
turns: a verdict on its time then is of this selection on this machine.

McNemar's exact test counts the questions that one arm alone has right, seeds as strata.

Over models (three and more in the headline): each model's mean is one value, with the variance of the runs pooled over
models and its own of the questions. REML, Knapp and Hartung's standard error with t(k − 1); what the models share of
the questions' variance is added. *A new model*: the interval of its true effect.

Times are compared as logarithms of ratios. In turns, an arm is faster or slower only beyond what std differs from
itself.

Primary family ({primary}; the selecting arm against std; pooled, else of single models): Holm's correction, of the
tests of a difference and of those of equivalence. Other results of single models, each effect by itself: Benjamini and
Hochberg at {false_discovery_rate:g}, and intervals of that false coverage rate (FCR) for those that are found. No
correction: other means over models, and models marked †, which are no part of the headline. A p of equivalence in a
table is that of one test.

*Detectable*: the smallest true difference that such data show with a probability of {wanted:.0f} %, by one test at 5 %.

Bootstrap: models, then seeds within, and questions once for all models. Posterior: normal hierarchy, flat prior of the
mean, half-normal of the models' spread; *by the prior* has P(within the margin) with half, once and twice its scale.
Mixed model: over runs alone, its interval of the normal distribution, so too narrow for few models.

A base model not above guessing ({guessed}one-sided exact binomial test at 5 %; generated answers: none right), or that
says one choice whatever is asked, has nothing to forget: *says nothing*.
"""
_WHEN = {
    "beforehand": "They were committed before the first of these runs ended.",
    "afterwards": "**They were changed after the first of these runs had ended (margins set afterwards).**",
    "unknown": "Whether they are older than these runs is not known here.",
}


def verdict_rules(plan: Mapping[str, Any], margins: str, benchmarks: Iterable[str]) -> str:
    """Return every rule of the verdicts, a line each.

    Parameters
    ----------
    plan
        The summary's.
    margins
        When they were stated: "beforehand", "afterwards" or "unknown".
    benchmarks
        Those of the study; the rules name the score of guessing in each.
    """
    own, families = plan["margins"], plan["families"]
    guessed = (f"{FACTS[n].title}: {100 * FACTS[n].chance:g} %" for n in questions_shown(benchmarks) if FACTS[n].chance)
    text = _RULES.format(
        guessed="".join(f"{each}, " for each in guessed),
        path=plan["path"],
        sha256=plan["sha256"][:12],
        points=", ".join(f"{margin:g}" for margin in own["points"]),
        verdict_points=own["verdict_points"],
        nats=own["nats"],
        time_percent=own["time_percent"],
        when=_WHEN[margins],
        primary=", ".join(map(measure_name, families["primary"])),
        false_discovery_rate=families["false_discovery_rate"],
        wanted=100 * plan["power_wanted"],
    )
    return "".join(f"- {' '.join(rule.split())}\n" for rule in text.strip().split("\n\n"))
