"""What the paper says of speed, time, layers and parameters, recomputed from its tables.

The numbers N1 to N25 are those of docs/paper.md ("What does not add up"); the others are in test_audit_scores.py.
"""

import math

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from aletheia.provenance.lineage import ROOT

PUBLISHED = ROOT / "config" / "published"
MODELS = pd.read_csv(PUBLISHED / "table1.csv").set_index("key")
SPEED = pd.read_csv(PUBLISHED / "table2.csv").set_index("key").drop(index="overall")
SPEEDUPS = SPEED["speedup_percent_mean"]
REGISTRY = yaml.safe_load((ROOT / "config" / "models.yaml").read_text(encoding="utf-8"))
ROUNDING = 0.05  # half a unit of the last printed digit of seconds and percent
AUTORESEARCH = pd.read_csv(PUBLISHED / "autoresearch.csv").set_index("name")

# Widths of the models as their configurations have them: hidden, of the MLP, heads, heads of keys, vocabulary, and
# whether embeddings are tied. The parameters that follow are held against the registry's below.
WIDTHS = {
    "qwen2.5-0.5b": (896, 4864, 14, 2, 151936, True),
    "qwen2.5-1.5b": (1536, 8960, 12, 2, 151936, True),
    "qwen2.5-3b": (2048, 11008, 16, 2, 151936, True),
    "qwen2.5-7b": (3584, 18944, 28, 4, 152064, False),
    "qwen2.5-14b": (5120, 13824, 40, 8, 152064, False),
    "qwen2.5-72b": (8192, 29568, 64, 8, 152064, False),
    "tinyllama-1.1b": (2048, 5632, 32, 4, 32000, False),
    "phi-3.5-mini": (3072, 8192, 32, 32, 32064, False),
    "mistral-7b": (4096, 14336, 32, 8, 32000, False),
    "llama-3.1-8b": (4096, 14336, 32, 8, 128256, False),
    "llama-3.1-70b": (8192, 28672, 64, 8, 128256, False),
}


def possible_p(row, *, ddof):
    """Return the least and largest paired p of three seeds that a row's means and its three SDs allow.

    The speedup's SD fixes the correlation of both times, to first order in their relative SDs, and that the SD of their
    difference. ``ddof`` is that of the printed SDs; the test takes sample SDs.
    """
    scale = math.sqrt(3 / (3 - 1)) if ddof == 0 else 1.0
    std, ale = row["std_seconds_mean"], row["ale_seconds_mean"]
    steps = np.linspace(-ROUNDING, ROUNDING, 41)
    a, b = np.meshgrid(*(np.maximum(row[f"{arm}_seconds_sd"] + steps, 1e-6) for arm in ("std", "ale")))
    share, relative = ale / std, (a / std, b / ale)
    spread = share * abs(relative[0] - relative[1]), share * (relative[0] + relative[1])
    sds = []
    for printed in (row["speedup_percent_sd"] - ROUNDING, row["speedup_percent_sd"] + ROUNDING):
        s = np.clip(printed / 100, *spread)
        r = (relative[0] ** 2 + relative[1] ** 2 - (s / share) ** 2) / (2 * relative[0] * relative[1])
        sds.append(np.sqrt(np.maximum(a**2 + b**2 - 2 * r * a * b, 0)))
    fits = np.maximum(spread[0], row["speedup_percent_sd"] / 100 - ROUNDING / 100) <= spread[1]
    low, high = min(sd[fits].min() for sd in sds), max(sd[fits].max() for sd in sds)
    gain = std - ale
    return tuple(
        2 * stats.t.sf((gain - sign * 2 * ROUNDING) / (max(sd, 1e-9) * scale / math.sqrt(3)), 2)
        for sd, sign in ((low, -1), (high, 1))
    )


def test_n1_half_of_the_p_values_fit_the_printed_sds_only_as_population_sds():
    fitting = {}
    for ddof in (1, 0):
        bounds = {key: possible_p(row, ddof=ddof) for key, row in SPEED.iterrows()}
        fitting[ddof] = {k for k, (low, high) in bounds.items() if low - 5e-5 <= SPEED["p_value"][k] <= high + 5e-5}
    assert fitting[0] == set(SPEED.index)
    unfit = {"qwen2.5-0.5b", "tinyllama-1.1b", "phi-3.5-mini", "mistral-7b", "llama-3.1-8b"}
    assert set(SPEED.index) - fitting[1] == unfit
    # The overall SD is of the other kind: the population SD of 30 rows rounds to 4.8.
    assert [round(np.repeat(SPEEDUPS, 3).std(ddof=ddof), 1) for ddof in (1, 0)] == [4.9, 4.8]


def test_n1_the_bounds_on_p_are_those_of_drawn_times():
    """Three seeds are drawn with the printed means and SDs; no p of theirs lies outside."""
    row = SPEED.loc["phi-3.5-mini"]
    low, high = possible_p(row, ddof=1)
    z = np.random.default_rng(1).normal(size=(2, 200_000, 3))
    z = (z - z.mean(axis=-1, keepdims=True)) / z.std(axis=-1, ddof=1, keepdims=True)
    std, ale = (row[f"{a}_seconds_mean"] + row[f"{a}_seconds_sd"] * z[i] for i, a in enumerate(("std", "ale")))
    fits = np.abs((100 * (1 - ale / std)).std(axis=-1, ddof=1) - row["speedup_percent_sd"]) <= ROUNDING
    found = stats.ttest_rel(std[fits], ale[fits], axis=-1).pvalue
    assert fits.sum() > 1000
    # Two percent for the first order in relative SDs.
    assert low * 0.98 <= found.min()
    assert found.max() <= high * 1.02


def test_n2_a_quarter_more_steps_is_not_the_time_of_std():
    ratio = SPEED["std_seconds_mean"] / SPEED["ale_seconds_mean"]
    assert (200 * ratio)[["qwen2.5-7b", "llama-3.1-8b"]].round(1).tolist() == [242.9, 272.9]
    share = 125 / ratio
    assert share[["qwen2.5-7b", "llama-3.1-8b"]].round(1).tolist() == [102.9, 91.6]
    assert (round(share.min(), 1), round(share.max(), 1)) == (90.3, 105.3)
    assert (round((200 * ratio).min()), round((200 * ratio).max())) == (237, 277)


def parameters(key):
    """Return a model's parameters: attention, gated MLP, two norms a layer, a last norm, embeddings, head."""
    hidden, mlp, heads, key_heads, vocabulary, tied = WIDTHS[key]
    keys = hidden // heads * key_heads
    layer = 2 * hidden**2 + 2 * hidden * keys + 3 * hidden * mlp + 2 * hidden
    biases = hidden + 2 * keys if key.startswith("qwen") else 0
    return REGISTRY[key]["layers"] * (layer + biases) + hidden + vocabulary * hidden * (1 if tied else 2)


def adapters(key, *, attention, mlp, share):
    """Return parameters of adapters on a share of the layers, by rank; Phi's linears are fused."""
    hidden, inner, heads, key_heads, *_ = WIDTHS[key]
    keys = hidden // heads * key_heads
    if key == "phi-3.5-mini":
        sizes = (2 * hidden + 2 * keys + 2 * hidden, hidden + 2 * inner + inner + hidden)
    else:
        sizes = (4 * hidden + 2 * (hidden + keys), 3 * (hidden + inner))
    return share * REGISTRY[key]["layers"] * (attention * sizes[0] + mlp * sizes[1])


@pytest.mark.parametrize("key", WIDTHS)
def test_widths_are_those_of_the_registrys_models(key):
    assert parameters(key) == REGISTRY[key]["parameters"]


@pytest.mark.parametrize(("mlp", "least", "most"), [(16, -50, -50), (64, 44, 65), (32, -19, -12)])
def test_n11_no_ranks_on_half_of_the_layers_save_4_to_16_percent(mlp, least, most):
    change = [
        100 * (adapters(key, attention=16, mlp=mlp, share=0.5) / adapters(key, attention=16, mlp=16, share=1) - 1)
        for key in SPEED.index
    ]
    assert (round(min(change)), round(max(change))) == (least, most)
    assert not all(-16 <= value <= -4 for value in change)


def test_n12_a_probe_in_chunks_takes_15_to_50_passes():
    passes = 5 * np.ceil(MODELS["layers"] / 8)
    assert (passes.min(), passes.max()) == (15, 50)
    share = 100 * passes / (200 * 2)  # of the micro-batches of 200 steps with accumulation 2
    assert (share.min(), share.max()) == (3.75, 12.5)
    assert ((2 / share).round(2).min(), (2 / share).round(2).max()) == (0.16, 0.53)


def test_n13_speedups_lie_in_two_groups():
    ordered = np.sort(SPEEDUPS)
    assert np.diff(ordered).argmax() == 3
    assert np.diff(ordered).max() == pytest.approx(7.7)
    assert [round(group.std(ddof=1), 1) for group in (ordered[:4], ordered[4:])] == [1.1, 0.7]


def test_n14_the_largest_models_gain_less():
    large = MODELS["parameters_billions"][SPEED.index] >= 70
    welch = stats.ttest_ind(SPEEDUPS[large], SPEEDUPS[~large], equal_var=False)
    assert (round(SPEEDUPS[large].mean(), 1), round(SPEEDUPS[~large].mean(), 1)) == (16.6, 24.7)
    assert welch.pvalue == pytest.approx(0.0017, abs=5e-5)
    line = stats.linregress(np.log10(MODELS["parameters_billions"][SPEED.index]), SPEEDUPS)
    assert (round(line.slope, 1), round(line.pvalue, 3)) == (-4.1, 0.076)


def test_n15_if_half_of_the_adapters_were_all_that_is_saved_adapters_would_take_a_third_to_a_half_of_a_step():
    assert [round(2 * value) for value in (SPEEDUPS.min(), SPEEDUPS.max())] == [32, 56]
    # A step of 14 times the parameters takes 1.4 times as long.
    seconds = SPEED["std_seconds_mean"]
    assert round(seconds["mistral-7b"] / seconds["qwen2.5-0.5b"], 1) == 1.4
    sizes = MODELS["parameters_billions"]
    assert sizes["mistral-7b"] / sizes["qwen2.5-0.5b"] == 14


def test_n17_the_recipe_that_won_the_search_has_more_parameters_than_the_full_lora():
    layers, mlp, attention = (
        int(AUTORESEARCH["value"][f"search_winner_{name}"]) for name in ("layers", "mlp_rank", "attention_rank")
    )
    won = adapters("qwen2.5-3b", attention=attention, mlp=mlp, share=layers / MODELS["layers"]["qwen2.5-3b"])
    assert won / adapters("qwen2.5-3b", attention=16, mlp=16, share=1) == pytest.approx(1.087, abs=5e-4)
    assert round(100 * (1 - 1 / AUTORESEARCH["value"]["speedup_ratio"]), 1) == 73.7


def test_n20_the_range_15_to_28_is_cut_below_and_rounded_above():
    assert (math.floor(SPEEDUPS.min()), round(SPEEDUPS.min()), math.floor(SPEEDUPS.max()), round(SPEEDUPS.max())) == (
        15,
        16,
        27,
        28,
    )


def test_n22_a_family_of_two_models_has_no_significant_speedup():
    families = MODELS["family"][SPEED.index]
    assert families.nunique() == 5
    assert families.value_counts().to_dict() == {"Qwen": 5, "Llama": 2, "TinyLlama": 1, "Phi": 1, "Mistral": 1}
    llama = SPEEDUPS[families == "Llama"]
    low, high = stats.t.interval(0.95, 1, llama.mean(), stats.sem(llama))
    assert (round(low), round(high)) == (-37, 81)
    assert stats.ttest_1samp(llama, 0).pvalue == pytest.approx(0.13, abs=0.005)


def test_n9_mistrals_query_heads_share_keys_and_phis_do_not():
    shared = {key: WIDTHS[key][3] < WIDTHS[key][2] for key in SPEED.index}
    assert [key for key, is_shared in shared.items() if not is_shared] == ["phi-3.5-mini"]
