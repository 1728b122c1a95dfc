"""Effects and what follows from them: values by seed and question, pooled models, corrected families, verdicts."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from aletheia.analysis import verdicts
from aletheia.analysis.ledger import build_ledger
from aletheia.analysis.paired_arms import effects
from aletheia.analysis.plan import PlanHistory
from aletheia.inference import questions, random_effects
from aletheia.report import analyses
from aletheia.report.findings import findings_text
from ledgers import SEEDS, TEN_MODELS, TWO_MODELS, ledger_of, run, study
from reports import PLAN, summarise

FOUR = dict(itertools.islice(TEN_MODELS.items(), 4))
ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}
SUBJECTS = ("law", "physics", "virology", "ethics")


def answers_of(models, *, benchmark="mmlu", n=80, seed=0, shift=0.0):
    """Answers of std and ale of each model and seed, and their scores; ale's are ``shift`` higher."""
    rng = np.random.default_rng(seed)
    parts, shares = [], {}
    for model in models:
        ability = rng.uniform(0.2, 0.9, n)
        for arm, of_seed in itertools.product(("std", "ale"), SEEDS):
            correct = rng.random(n) < ability + shift * (arm == "ale")
            shares[model, arm, of_seed] = correct.mean()
            items = [f"{SUBJECTS[i % 4]}/{i}" for i in range(n)]
            cells = {"model": model, "arm": arm, "seed": of_seed, "benchmark": benchmark, "item": items}
            cells |= {"cluster": [item.split("/")[0] for item in items], "correct": correct, "tokens": None}
            cells |= {"probability": rng.random(n), "loss": None, "status": "ok"}
            parts.append(pd.DataFrame(cells))
    return pd.concat(parts, ignore_index=True).astype({"seed": "Int64", "correct": "boolean"}), shares


def ledger_with(models, shares, **more):
    """A ledger whose MMLU scores are those of the answers."""
    campaigns, runs, evaluations = study(models, arms=("std", "ale"), benchmarks=("heldout", "mmlu"), **more)
    for (model, arm, seed), share in shares.items():
        evaluations[model, arm, seed, "mmlu"]["payload"]["score"] = share
    return build_ledger(campaigns, runs, evaluations)


def block(summary, measure, arm="ale", reference="std", campaign=0):
    found = summary["campaigns"][campaign]["effects"]
    (one,) = [b for b in found if (b["arm"], b["reference"], b["measure"]) == (arm, reference, measure)]
    return one


def test_an_effect_has_the_values_of_each_seed_on_a_scale_that_can_be_averaged():
    ledger = ledger_of(ONE)
    by_measure = {(e.arm, e.measure): e for e in effects(ledger, None)}
    of = ledger.set_index(["arm", "seed"])
    ratios = [np.log(of.loc[("ale", s), "training_seconds"] / of.loc[("std", s), "training_seconds"]) for s in SEEDS]
    assert by_measure["ale", "time"].models[0].values == pytest.approx(ratios)
    losses = [of.loc[("ale", s), "heldout_loss"] - of.loc[("std", s), "heldout_loss"] for s in SEEDS]
    assert by_measure["ale", "heldout_loss"].models[0].values == pytest.approx(losses)
    points = [100 * (of.loc[("ale", s), "mmlu"] - of.loc[("std", s), "mmlu"]) for s in SEEDS]
    assert by_measure["ale", "mmlu"].models[0].values == pytest.approx(points)
    assert by_measure["ale", "mmlu"].higher_is_better
    assert not by_measure["ale", "heldout_loss"].higher_is_better


def test_a_failed_run_leaves_its_seed_out_and_stays_planned():
    campaigns, runs, evaluations = study(ONE)
    runs["smollm2-135m", "ale", 42] = run("smollm2-135m", "ale", 42, status="diverged", eval_loss=None)
    found = summarise(build_ledger(campaigns, runs, evaluations))
    (model,) = block(found, "heldout_loss")["models"]
    assert (model["seeds"], model["planned"]) == (2, 3)


def test_questions_and_seeds_are_both_in_the_interval_of_one_model():
    answers, shares = answers_of(ONE)
    found = summarise(ledger_with(ONE, shares), answers=answers)
    (model,) = block(found, "mmlu")["models"]
    own, other = (
        answers[answers["arm"] == arm].pivot_table(index="seed", columns="item", values="correct", sort=False)
        for arm in ("ale", "std")
    )
    differences = 100 * (own.astype(float) - other[own.columns].astype(float)).to_numpy()
    clusters = [item.split("/")[0] for item in own.columns]
    expected = questions.paired_difference(differences, clusters=clusters)
    assert model["over"] == "seeds and questions"
    own_score, std_score = (np.mean([shares["smollm2-135m", arm, s] for s in SEEDS]) for arm in ("ale", "std"))
    assert model["mean"] == pytest.approx(100 * (own_score - std_score))
    assert (model["low"], model["high"], model["se"]) == pytest.approx((expected.low, expected.high, expected.se))
    assert (model["items"]["n_questions"], model["items"]["n_clusters"]) == (80, 4)
    gained = [int(((own.loc[s] == True) & (other.loc[s] == False)).sum()) for s in SEEDS]  # noqa: E712
    assert [test["gained"] for test in model["mcnemar"]["by_seed"]] == gained
    assert model["mcnemar"]["stratified"]["gained"] == sum(gained)


def test_one_seed_has_an_interval_over_its_questions_and_no_verdict_on_other_runs():
    answers, shares = answers_of(ONE)
    one = {key: share for key, share in shares.items() if key[2] == 42}
    found = summarise(ledger_with(ONE, one, seeds=(42,)), answers=answers)
    (model,) = block(found, "mmlu")["models"]
    assert model["over"] == "questions"
    assert model["low"] < model["mean"] < model["high"]
    assert (model["verdict"]["verdict"], model["verdict"]["reason"]) == ("cannot tell", verdicts.ONE_RUN)


def test_without_answers_the_interval_is_over_seeds_alone():
    (model,) = block(summarise(ledger_of(ONE)), "mmlu")["models"]
    assert (model["over"], model["items"]) == ("seeds", None)


@pytest.mark.parametrize("how", ["a seed without answers", "a seed that was asked others"])
def test_where_seeds_did_not_answer_the_same_questions_the_interval_is_over_seeds_alone(how):
    answers, shares = answers_of(ONE, n=20)
    ledger, of_one = ledger_with(ONE, shares), (answers["seed"] == 123)
    if how == "a seed without answers":
        answers = answers[~of_one]
    else:
        answers.loc[of_one, "item"] += "x"
    (found,) = block(summarise(ledger, answers=answers), "mmlu")["models"]
    (alone,) = block(summarise(ledger), "mmlu")["models"]
    assert found == alone
    assert (found["over"], found["seeds"], found["items"]) == ("seeds", 3, None)


def test_models_without_a_question_in_common_are_pooled_by_their_seeds():
    six = dict(itertools.islice(TEN_MODELS.items(), 6))
    answers, shares = answers_of(six, n=8)
    number = answers["item"].str.split("/").str[1].astype(int)
    lost = {"model-0": number < 4, "model-1": number >= 4}
    for model, where in lost.items():
        answers.loc[(answers["model"] == model) & where, "correct"] = pd.NA
    pooled = block(summarise(ledger_with(six, shares), answers=answers), "mmlu")["pooled"]
    assert (pooled["n"], pooled["shared_variance"]) == (6, 0.0)
    assert pooled["bootstrap"]["low"] < pooled["bootstrap"]["high"]


def test_models_that_were_asked_other_questions_share_no_variance():
    three = dict(itertools.islice(TEN_MODELS.items(), 3))
    answers, shares = answers_of(three, n=20)
    answers["correct"] = np.resize(answers["correct"][:120], len(answers))
    ledger = ledger_with(three, shares)
    assert block(summarise(ledger, answers=answers), "mmlu")["pooled"]["shared_variance"] > 0
    other = answers["model"] == "model-1"
    answers.loc[other, "item"] += "x"
    assert block(summarise(ledger, answers=answers), "mmlu")["pooled"]["shared_variance"] == 0


def test_rows_without_a_finite_loss_or_a_token_are_left_out():
    rng, parts = np.random.default_rng(0), []
    for arm, of_seed in itertools.product(("std", "ale"), SEEDS):
        cells = {"model": "smollm2-135m", "arm": arm, "seed": of_seed, "benchmark": "heldout"}
        cells |= {"item": list("abcdefgh"), "cluster": None, "correct": None, "probability": None, "status": "ok"}
        parts.append(pd.DataFrame({**cells, "tokens": 10, "loss": 2 + rng.normal(0, 0.1, 8)}))
    answers = pd.concat(parts, ignore_index=True).astype({"seed": "Int64", "tokens": "Int64"})
    answers.loc[answers["item"] == "a", "tokens"] = 0
    answers.loc[answers["item"] == "b", "tokens"] = pd.NA
    answers.loc[2, "loss"] = np.inf
    (found,) = block(summarise(ledger_of(ONE), answers=answers), "heldout_loss")["models"]
    assert (found["items"]["n_questions"], found["items"]["dropped"]) == (5, 3)
    assert np.isfinite([found["mean"], found["se"]]).all()


def test_three_headline_models_are_pooled_and_two_are_not():
    three = dict(itertools.islice(TEN_MODELS.items(), 3))
    pooled = block(summarise(ledger_of(three)), "time")["pooled"]
    assert pooled["n"] == 3
    assert pooled["prediction_low"] < pooled["low"] < pooled["mean"] < pooled["high"] < pooled["prediction_high"]
    two = dict(itertools.islice(TEN_MODELS.items(), 2))
    few = block(summarise(ledger_of(two)), "time")
    assert few["pooled"] is None
    assert "models to come" in few["not_pooled"]


def test_models_at_the_floor_are_in_no_pool_and_say_nothing():
    models = {name: {**law, "mmlu": 0.25 if name == "model-0" else 0.5} for name, law in FOUR.items()}
    found = block(summarise(ledger_of(models)), "mmlu")
    assert found["pooled"]["n"] == 3
    assert verdicts.text(found["models"][0]["verdict"]) == "says nothing: the base model only guesses"


def test_the_pool_counts_the_questions_that_all_models_share():
    three = dict(itertools.islice(TEN_MODELS.items(), 3))
    answers, shares = answers_of(three)
    alike = answers.copy()
    # Every model flips on the same questions: averaging over models does not take that away.
    first = answers[answers["model"] == "model-0"]
    for model in three:
        alike.loc[(alike["model"] == model).to_numpy(), "correct"] = first["correct"].to_numpy()
    of_first = {key: shares["model-0", *key[1:]] for key in shares}
    found = block(summarise(ledger_with(three, of_first), answers=alike), "mmlu")
    of_one = found["models"][0]["items"]["se_questions"] ** 2
    # The mean over models varies as one model does.
    assert found["pooled"]["shared_variance"] == pytest.approx(of_one)
    assert found["pooled"]["se"] ** 2 >= found["pooled"]["shared_variance"]


def test_primary_measures_are_corrected_by_holm_and_other_models_by_their_false_discoveries():
    ledger = ledger_of(FOUR)
    noise = np.random.default_rng(0).normal(0, 0.01, len(ledger))
    found = summarise(ledger.assign(heldout_loss=ledger["heldout_loss"] + noise))
    family = [b for b in found["campaigns"][0]["effects"] if b["family"] == "primary"]
    assert [(b["arm"], b["measure"]) for b in family] == [("ale", m) for m in PLAN.families.primary]
    assert {b["pooled"]["adjusted_by"] for b in family} == {"Holm"}
    time = next(b for b in family if b["measure"] == "time")["pooled"]
    assert time["p_adjusted"] == pytest.approx(3 * time["p"])
    models = block(found, "time")["models"]
    assert {model["adjusted_by"] for model in models} == {"Benjamini-Hochberg"}
    wider = [model for model in models if model["fcr_low"] is not None]
    assert wider
    assert all(model["fcr_low"] <= model["low"] and model["high"] <= model["fcr_high"] for model in wider)


def test_of_one_headline_model_the_primary_family_is_its_measures():
    (model, other) = block(summarise(ledger_of(TWO_MODELS)), "heldout_loss")["models"]
    assert model["adjusted_by"] == "Holm"
    assert (other["headline"], other["adjusted_by"]) == (False, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("history", "said"),
    [
        (PlanHistory("c" * 40, "2020-01-01T00:00:00+00:00", modified=False), "beforehand"),
        (PlanHistory("c" * 40, "2030-01-01T00:00:00+00:00", modified=False), "afterwards"),
        (PlanHistory("c" * 40, "2020-01-01T00:00:00+00:00", modified=True), "afterwards"),
        (None, "unknown"),
    ],
)
def test_margins_set_after_the_first_run_are_marked_wherever_a_verdict_stands(history, said):
    ledger = ledger_of(FOUR).assign(ended="2026-01-01T00:00:00+00:00")
    found = summarise(ledger, history=history)
    results = [r for b in found["campaigns"][0]["effects"] for r in (b["pooled"], *b["models"])]
    assert {r["verdict"]["margins"] for r in results} == {said}
    assert {r["verdict"]["plan_sha256"] for r in results} == {PLAN.sha256}
    for text in (analyses.forgetting_deltas, analyses.compute_matched, analyses.inference, findings_text):
        assert ("set afterwards" in text(found)) == (said == "afterwards"), text.__name__


def test_a_verdict_is_one_word_and_follows_from_its_interval():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(2000):
        mean, se, df = rng.normal(0, 2), rng.exponential(1), int(rng.integers(1, 30))
        low, high, low90, high90 = interval_of(mean, se, df)
        estimate = {"n": df + 1, "mean": mean, "low": low, "high": high}
        word, _ = verdicts.of_estimate(estimate, 1.0, higher_is_better=True)
        inside, outside = low90 > -1 and high90 < 1, low > 0 or high < 0
        expected = "equivalent" if inside else ("better" if mean > 0 else "worse") if outside else "cannot tell"
        assert word == expected
        seen.add(word)
    assert seen == {"equivalent", "better", "worse", "cannot tell"}


def interval_of(mean, se, df):
    from scipy import stats

    half, half90 = (stats.t.ppf(share, df) * se for share in (0.975, 0.95))
    return mean - half, mean + half, mean - half90, mean + half90


def test_no_spread_is_no_certainty():
    equal = {"n": 3, "mean": 0.0, "low": 0.0, "high": 0.0}
    assert verdicts.of_estimate(equal, 1.0, higher_is_better=True)[0] == "cannot tell"


def test_the_pooled_mean_is_that_of_the_random_effects_model():
    found = block(summarise(ledger_of(FOUR)), "time")
    of_ale = {effect.measure: effect for effect in effects(ledger_of(FOUR), None) if effect.arm == "ale"}
    models = of_ale["time"].models
    variance, df = random_effects.pool_variance([model.values for model in models])
    means = [np.mean(model.values) for model in models]
    expected = random_effects.random_effects(means, [variance / 3] * 4)
    assert (found["run_df"], df) == (8, 8)
    pooled = {field.name: found["pooled"][field.name] for field in dataclasses.fields(expected)}
    assert pooled == pytest.approx(dataclasses.asdict(expected))


def test_an_outcome_that_cannot_tell_says_what_it_would_have_found():
    laws = enumerate(TEN_MODELS.items())
    noisy = {name: {**law, "ale": law["std"] * (0.8 if i % 2 else 1.3)} for i, (name, law) in laws}
    found = summarise(ledger_of(noisy))
    assert block(found, "time")["pooled"]["verdict"]["verdict"] == "cannot tell"
    text = analyses.inference(found)
    assert "## What these runs cannot answer" in text
    assert "training time, ale / std: a true difference of" in text
    assert "no difference" not in text.lower().replace("no difference was found is no finding", "")


def test_the_false_discovery_rate_of_the_plan_is_that_of_its_verdicts():
    families = dataclasses.replace(PLAN.families, false_discovery_rate=0.001)
    stated = verdicts.Stated(dataclasses.replace(PLAN, families=families), "unknown")
    result = {"mean": 4.0, "se": 1.0, "df": 20, "p": 0.0007, "p_adjusted": 0.004, "p_equivalence_adjusted": 0.97}
    for by, word in (("Benjamini-Hochberg", "cannot tell"), ("Holm", "better")):
        told = verdicts.conclude({**result, "adjusted_by": by}, higher_is_better=True, unit="points", stated=stated)
        assert told["verdict"] == word
