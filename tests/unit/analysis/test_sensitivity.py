"""Layer scores as a table, a heat map and mass curves; the stability of a selection over draws."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest

from aletheia.analysis import stability
from aletheia.analysis.layer_scores import layer_table, read_layer_table
from aletheia.analysis.ledger import write_csv
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.report import layer_figures, plot_style, stability_figure
from conftest import STUDY, run_script, said, snakemake
from reports import STYLE, words

NAMES = ["model.layers.{}.self_attn.q_proj.weight", "model.layers.{}.mlp.up_proj.weight"]


def probe(batches, weights=1.0):
    """Return a probe's payload from norms [batches, layers]; each layer's second parameter has a norm of zero."""
    rows = np.asarray(batches, dtype=float)
    depth = rows.shape[1]
    per_module = [
        {name.format(layer): value * (name == NAMES[0]) for layer, value in enumerate(row) for name in NAMES}
        for row in rows.tolist()
    ]
    l2 = rows.sum(axis=0)
    scores = {"l2": l2, "sum_of_norms": l2, "relative": l2 / weights, "normalized": l2 / l2.sum()}
    return {
        "status": "ok",
        "reason": None,
        "layers_total": depth,
        "scores": {name: value.tolist() for name, value in scores.items()},
        "losses": [1.0] * len(rows),
        "per_module": per_module,
        "weight_norms": {name.format(i): weights for name in NAMES for i in range(depth)},
    }


def diverged(depth=4):
    scores = dict.fromkeys(("l2", "sum_of_norms", "relative", "normalized"))
    return {"status": "diverged", "reason": "batch 0: loss is not finite", "layers_total": depth, "scores": scores}


def draw(name, table):
    with mpl.rc_context(plot_style.rc(STYLE)):
        return layer_figures.FIGURES[name](table, STYLE)


def test_the_table_has_a_row_a_layer_and_a_failed_probe_has_empty_cells(tmp_path):
    table = layer_table({("a", 1): probe([[1, 2, 3]]), ("b", 1): diverged()})
    assert len(table) == 3 + 4
    assert table[table["model"] == "a"]["normalized"].sum() == pytest.approx(1)
    failed = table[table["model"] == "b"]
    assert set(failed["status"]) == {"diverged"}
    assert failed[["l2", "normalized"]].isna().all(axis=None)
    write_csv(table, tmp_path / "layers.csv")
    assert read_layer_table(tmp_path / "layers.csv").equals(table)


def test_mass_curves_follow_the_formula():
    curves = layer_figures.gradient_share_curves(np.array([[1.0, 3.0, 0.0, 4.0]]))
    assert curves.tolist() == [[0, 50, 87.5, 100, 100]]


@pytest.mark.parametrize("name", layer_figures.FIGURES)
@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_every_figure_for_every_shape_of_study(name, seeds, tmp_path):
    generator = np.random.default_rng(0)
    for models in (["only"], [f"model-{i}" for i in range(14)]):
        probes = {(m, s): probe(generator.random((2, 5 + i))) for i, m in enumerate(models) for s in seeds}
        probes["broken", 1] = diverged()
        figure = draw(name, layer_table(probes))
        plot_style.save(figure, tmp_path / "x.png")
        assert f"n = {len(seeds)} probe" in words(figure)
    assert "No probe ended well" in words(draw(name, layer_table({("broken", 1): diverged()})))


def test_the_mass_figure_says_what_the_top_half_holds():
    said_of_it = words(draw("figS2", layer_table({("a", 1): probe([[1, 1, 3, 5]])})))
    assert "Σ norms: 80 % in the top half" in said_of_it
    assert "Σ squared norms: 94 % in the top half" in said_of_it


def test_equal_draws_agree_wholly_and_opposed_ones_not_at_all():
    up, down = probe([[1, 2, 3, 4]] * 2), probe([[4, 3, 2, 1]] * 2)
    how = {"batches": [1, 2], "score": "l2", "budget_percent": 50}
    same = stability.model_stability("m", [up, up, up], draws=3, **how)
    assert [row["jaccard"]["mean"] for row in same["by_batches"]] == [1, 1]
    assert same["by_batches"][0]["spearman"] == {"mean": 1, "low": 1, "high": 1, "min": 1, "n": 3, "pairs": 3}
    assert same["by_batches"][0]["selected_share"] == [0, 0, 1, 1]
    opposed = stability.model_stability("m", [up, down], draws=2, **how)["by_batches"][0]
    assert (opposed["jaccard"]["mean"], opposed["spearman"]["mean"]) == (0, -1)
    assert opposed["jaccard"]["low"] is None  # two draws have no interval


def test_fewer_batches_are_the_first_ones():
    draws = [probe([[4, 3, 2, 1], [0, 0, 50, 60]]), probe([[1, 2, 3, 4], [0, 0, 50, 60]])]
    found = stability.model_stability("m", draws, draws=2, batches=[1, 2], score="l2", budget_percent=50)
    assert [row["jaccard"]["mean"] for row in found["by_batches"]] == [0, 1]


def test_chance_is_what_random_selections_share():
    generator = np.random.default_rng(0)
    drawn = [generator.permutation(30)[:15] for _ in range(2000)]
    simulated = np.mean([stability.jaccard(a, b) for a, b in itertools.pairwise(drawn)])
    up = probe([np.arange(1, 31)])
    found = stability.model_stability("m", [up, up], draws=2, batches=[1], score="l2", budget_percent=50)
    assert found["jaccard_by_chance"] == pytest.approx(simulated, abs=0.01)


def test_the_interval_is_the_jackknife_over_draws():
    values = np.array([[0, 0.2, 0.4, 0.5], [0.2, 0, 0.6, 0.1], [0.4, 0.6, 0, 0.3], [0.5, 0.1, 0.3, 0]])
    found = stability.pairwise(values)
    pairs = dict(zip(itertools.combinations(range(4), 2), values[np.triu_indices(4, 1)], strict=True))
    whole = np.mean(list(pairs.values()))
    pseudo = [4 * whole - 3 * np.mean([v for pair, v in pairs.items() if i not in pair]) for i in range(4)]
    half = 3.182446 * np.std(pseudo, ddof=1) / 2
    assert found["mean"] == pytest.approx(whole)
    assert (found["low"], found["high"]) == (pytest.approx(whole - half), pytest.approx(whole + half))


@pytest.mark.parametrize("scores", [[3], [2, 2, 2]])
def test_a_rank_agreement_that_is_not_defined_is_null(scores, tmp_path):
    ranked = probe([[1, 2, 3][: len(scores)]])
    how = {"draws": 3, "batches": [1], "score": "l2", "budget_percent": 50}
    found = stability.model_stability("m", [probe([scores]), ranked, ranked], **how)
    nothing = {"mean": None, "low": None, "high": None, "min": None}
    assert found["by_batches"][0]["spearman"] == {**nothing, "n": 3, "pairs": 3}
    assert found["by_batches"][0]["jaccard"]["mean"] is not None
    # The artifact's schema and its writer, which refuses NaN, take it; the plot leaves a gap.
    envelope = artifacts.make_envelope("stability", {"models": {"m": found}}, {}, {}, tmp_path / "x.json")
    assert artifacts.canonical_bytes(envelope)
    with mpl.rc_context(plot_style.rc(STYLE)):
        figure = stability_figure.plot_stability({"m": found}, STYLE)
        plot_style.save(figure, tmp_path / "x.svg")
    (line,) = figure.axes[1].get_lines()
    assert np.isnan(line.get_ydata()).all()


@pytest.mark.parametrize(
    ("given", "found"),
    [((), "none"), (("stability.m.draws=2",), "{'m': {'draws': 2}}"), (("stability.m=2",), "{'m': 2}")],
)
def test_settings_that_lack_by_hand_are_one_sentence(tmp_path, given, found):
    out = tmp_path / "summary.json"
    options = ("--set", *given) if given else ()
    done = run_script("stability.py", "--draws", tmp_path / "seed0.json", "--out", out, *options)
    assert done.returncode == 2
    settings = "the settings section stability (of each model: batches, budget_percent, draws, score)"
    assert done.stderr == f"error: stability: expected {settings}, found {found}; see --help\n"


def test_too_few_draws_are_one_sentence():
    with pytest.raises(UserError, match="expected 3 draws, two or more of which ended well, found 3 and 1"):
        stability.model_stability(
            "m", [probe([[1, 2]]), diverged(), diverged()], draws=3, batches=[1], score="l2", budget_percent=50
        )


@pytest.mark.slow
def test_the_target_probes_draws_and_compares_them(study):
    done = snakemake(study, "stability", *STUDY)
    assert done.returncode == 0, said(done)[-2000:]
    models = artifacts.payload(study / "results/stability/summary.json", "stability")["models"]
    assert set(models) == {"tiny-llama", "tiny-neox"}
    rows = models["tiny-llama"]["by_batches"]
    assert [row["batches"] for row in rows] == [1, 3]
    assert rows[0]["jaccard"]["n"] == 3
    assert (study / "results/stability/stability.pdf").read_bytes().startswith(b"%PDF")
