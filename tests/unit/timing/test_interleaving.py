"""Arms in turns in one process: shared weights, adapters of their own, alternating order, failures of their own."""

import copy
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from aletheia.provenance import artifacts
from aletheia.timing.interleaving import copy_sharing_weights, equal_rows, round_orders, take_turns, total_steps
from aletheia.timing.paired import (
    COLUMNS,
    RATIOS,
    STD_AGAIN,
    StepSeconds,
    ratios_payload,
    run_ratios,
    status_of,
    summary_rows,
)
from aletheia.timing.rounds import Turns
from aletheia.training.loop import Step
from conftest import FAMILIES, STUDY, copy_study, random_batch, run_script, said, snakemake, tiny_model
from loops import BF16, looped, nf4_model

# --- shared weights ---------------------------------------------------------------------------------------------------


def tensors(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_shares_every_tensor_and_no_module(family):
    model = tiny_model(family)
    other = copy_sharing_weights(model)
    ours, theirs = tensors(model), tensors(other)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert not {id(module) for module in model.modules()} & {id(module) for module in other.modules()}


def test_a_tied_head_stays_tied():
    from transformers import AutoConfig, AutoModelForCausalLM

    tied = AutoConfig.for_model("llama", **FAMILIES["llama"], tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(tied)
    other = copy_sharing_weights(model)
    assert other.get_output_embeddings().weight is other.get_input_embeddings().weight is model.lm_head.weight
    assert len(list(other.parameters())) == len(list(model.parameters()))


def test_4_bit_weights_and_their_scales_are_shared(nf4_folder):
    model = nf4_model(nf4_folder)
    other = copy_sharing_weights(model)
    ours, theirs = (m.model.layers[1].mlp.up_proj for m in (model, other))
    assert ours is not theirs
    assert type(theirs).__name__ == "Linear4bit"
    assert theirs.weight.data.data_ptr() == ours.weight.data.data_ptr()
    assert theirs.weight.quant_state is ours.weight.quant_state


def adapters(loop):
    return {name: p.detach().clone() for name, p in loop.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_training_one_arm_changes_nothing_of_another(family):
    base = tiny_model(family)
    kept = {name: tensor.clone() for name, tensor in tensors(base).items()}
    first, second = (looped(layers, model=copy_sharing_weights(base))[0] for layers in ([0, 2], [1, 2]))
    before = adapters(second)
    first.step()
    first.step()
    after = adapters(second)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors(base).items())
    assert not any(p.requires_grad and p.grad is not None for p in second.model.parameters())


def test_arms_in_turns_learn_what_they_learn_alone(nf4_folder):
    def losses(loops, order):
        found = {name: [] for name in loops}
        for name in order:
            found[name].append(loops[name].step().loss)
        return found

    def made(base, layers):
        base.to = lambda dtype: base  # looped's cast, which 4-bit weights refuse
        return looped(layers, model=base, dtype=BF16)[0]

    base = nf4_model(nf4_folder)
    first, second = (made(copy_sharing_weights(base), layers) for layers in ([0, 1, 2], [2]))
    together = losses({"a": first, "b": second}, "abbaabba")
    for name, layers in {"a": [0, 1, 2], "b": [2]}.items():
        alone = losses({name: made(nf4_model(nf4_folder), layers)}, [name] * 4)
        assert together[name] == alone[name]


# --- turns ------------------------------------------------------------------------------------------------------------


class Scripted:
    """A loop that notes when it runs, and does at a step what it is told."""

    placement = None

    def __init__(self, name, seen, at=None, does=None):
        self.name, self.seen, self.at, self.does, self.done = name, seen, at, does, 0

    def step(self):
        self.seen.append(self.name)
        self.done += 1
        if self.done == self.at:
            return self.does()
        return Step(1.0, 1.0, 0.1)


def out_of_memory():
    raise torch.OutOfMemoryError("out of memory: tried to allocate 2 GiB")


def test_the_orders_of_six_rounds_are_balanced():
    orders = round_orders("abc", 6)
    assert ["".join(order) for order in orders] == ["abc", "cba", "bca", "acb", "cab", "bac"]
    for place in range(3):
        assert sorted(order[place] for order in orders) == list("aabbcc")
    followed = [pair for order in orders for pair in itertools.pairwise(order)]
    assert sorted(followed) == sorted([(a, b) for a in "abc" for b in "abc" if a != b] * 2)
    assert ["".join(order) for order in round_orders("ab", 4)] == ["ab", "ba", "ba", "ab"]


def test_each_round_has_its_order_and_the_first_is_not_counted():
    seen = []
    turns = take_turns({n: lambda n=n: Scripted(n, seen) for n in "abc"}, rounds=3, steps=2)
    assert "".join(seen) == "aabbcc" + "aabbcc" + "ccbbaa" + "bbccaa"
    assert all(len(own.step_seconds) == 3 for own in turns.values())
    assert all(len(block) == 2 for own in turns.values() for block in own.step_seconds)
    assert total_steps({"rounds": 3, "steps": 2}) == 8


@pytest.mark.parametrize(
    ("does", "status", "reason"),
    [
        (out_of_memory, "out_of_memory", "out of memory: tried to allocate 2 GiB"),
        (lambda: Step(math.nan, 1.0, 0.1, "the loss of step 3 is not finite"), "diverged", "the loss of step 3"),
        (lambda: torch.ones(2) @ torch.ones(3), "crashed", "RuntimeError: "),
    ],
)
def test_an_arm_that_fails_ends_there_and_the_others_go_on(does, status, reason):
    seen = []
    makers = {"a": lambda: Scripted("a", seen, at=3, does=does), "b": lambda: Scripted("b", seen)}
    turns = take_turns(makers, rounds=2, steps=2)
    assert (turns["a"].status, len(turns["a"].step_seconds)) == (status, 0)
    assert turns["a"].reason.startswith(reason)
    assert (turns["b"].status, len(turns["b"].step_seconds)) == ("ok", 2)
    assert seen.count("a") == 3
    assert status_of(turns) == (status, f"arm a: {turns['a'].reason}")
    for failed in ({"std": "a", STD_AGAIN: "b"}, {"std": "b", STD_AGAIN: "a"}):
        three = {name: turns[which] for name, which in failed.items()} | {"b": turns["b"]}
        assert ratios_payload(three, "b", probe=None, steps=2) == dict.fromkeys(
            ("ratio", "ratio_with_probe", "same_ratio")
        )


def test_an_arm_that_does_not_fit_into_memory_from_the_start_is_a_status():
    turns = take_turns({"a": out_of_memory, "b": lambda: Scripted("b", [])}, rounds=2, steps=1)
    assert (turns["a"].status, turns["b"].status) == ("out_of_memory", "ok")


def test_real_loops_take_turns_and_divide_their_times():
    base = tiny_model()
    batches = [random_batch(2, 10, i) for i in range(2 * 3)]
    makers = {
        name: lambda layers=layers: looped(layers, model=copy_sharing_weights(base), steps=3, batches=batches)[0]
        for name, layers in {"std": [0, 1, 2], "ale": [2], STD_AGAIN: [0, 1, 2]}.items()
    }
    turns = take_turns(makers, rounds=2, steps=1)
    assert {name: own.placement["frozen_layers"] for name, own in turns.items()} == {"std": 0, "ale": 2, STD_AGAIN: 0}
    found = ratios_payload(turns, "ale", probe=None, steps=1)
    assert found["ratio"] == found["ratio_with_probe"]
    assert (found["ratio"]["rounds"], found["ratio"]["steps"]) == (2, 2)
    assert found["ratio"]["low"] <= found["ratio"]["value"] <= found["ratio"]["high"]


def test_arms_whose_layers_take_turns_train_in_turns_as_they_do_alone():
    base, loops = tiny_model(), {}
    batches = [random_batch(2, 10, i) for i in range(2 * 6)]
    active = {"one": {"every": 2, "count": 1}, "two": {"every": 1, "count": 2}, "std": None}

    def make(name, model):
        settings = {"steps": 6, "batches": batches, "layers_active": active[name], "checkpointing": name == "two"}
        return looped([0, 1, 2], model=model, **settings)[0]

    def kept(name):
        return loops.setdefault(name, make(name, copy_sharing_weights(base)))

    turns = take_turns({name: lambda name=name: kept(name) for name in active}, rounds=5, steps=1)
    assert {own.status for own in turns.values()} == {"ok"}
    for name, loop in loops.items():
        alone = make(name, tiny_model())
        for _ in range(6):
            alone.step()
        assert alone.active_layers() == loop.active_layers()
        assert turns[name].placement == alone.placement
        assert all(torch.equal(*pair) for pair in zip(alone._parameters, loop._parameters, strict=True))


# --- ratios -----------------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_over_steps_and_its_interval_is_over_rounds():
    std = Turns(step_seconds=[[2.0, 4.0], [6.0, 9.0], [2.0, 2.0]])
    arm = Turns(step_seconds=[[1.0, 2.0], [2.0, 3.0], [2.0, 2.0]])
    found = ratios_payload({"std": std, "ale": arm, STD_AGAIN: std}, "ale", probe=None, steps=2)
    assert found["same_ratio"]["value"] == found["same_ratio"]["low"] == found["same_ratio"]["high"] == 1
    found = found["ratio"]
    # Every mean of rounds lies within; of 27 resamples of three rounds one each holds only the slowest and the fastest.
    assert found == {"value": 2.0, "low": 1.0, "high": 3.0, "rounds": 3, "steps": 6}
    three = {"std": std, "ale": arm, STD_AGAIN: std}
    paid = ratios_payload(three, "ale", probe={"seconds": 10.0, "steps": 10}, steps=2)["ratio_with_probe"]
    assert paid["value"] == np.median([2 / 2, 4 / 3, 6 / 3, 9 / 4, 2 / 3, 2 / 3])


def test_the_ratio_takes_the_mean_of_both_standard_arms():
    std, again, arm = (np.array([[2.0], [4.0]]), np.array([[4.0], [4.0]]), np.array([[1.0], [2.0]]))
    seconds = StepSeconds(std, again, arm)
    assert seconds.ratio()["value"] == np.median([3 / 1, 4 / 2])
    assert seconds.same_ratio()["value"] == np.median([2 / 4, 4 / 4])


def test_an_arm_of_smaller_steps_has_as_many_as_take_the_rows_of_std():
    assert equal_rows({"batch_size": 2, "accumulation": 2}, {"batch_size": 2, "accumulation": 1}) == (1, 2)
    assert equal_rows({"batch_size": 1, "accumulation": 2}, {"batch_size": 2, "accumulation": 4}) == (4, 1)
    assert equal_rows({"batch_size": 2, "accumulation": 2}, {"batch_size": 3, "accumulation": 1}) == (1, 1)
    seen = []
    turns = take_turns({n: lambda n=n: Scripted(n, seen) for n in "abc"}, rounds=2, steps=1, times={"b": 2})
    assert "".join(seen) == "abbc" + "abbc" + "cbba"
    assert [len(block) for block in turns["b"].step_seconds] == [2, 2]


def test_what_a_step_takes_is_the_mean_of_those_that_share_the_rows_of_one_of_std():
    """Rows of four lengths, a round each: all of the arm's ratios are one, whatever the length."""
    step_seconds = {"std": [[4.0], [2.0]], STD_AGAIN: [[4.0], [2.0]], "ale": [[1.5, 0.5], [0.1, 0.9]]}
    found = StepSeconds.read(step_seconds, "ale", steps=1)
    assert found.arm.tolist() == [[1.0], [0.5]]
    assert found.ratio()["low"] == found.ratio()["high"] == 4


def test_a_drift_within_rounds_moves_no_ratio():
    """Each position of a round is 3 % slower than the one before, in all six orders."""
    seconds = {"std": [], "ale": [], STD_AGAIN: []}
    for order in round_orders(("std", "ale", STD_AGAIN), 6):
        for place, name in enumerate(order):
            seconds[name].append([(2.0 if name == "ale" else 3.0) * (1 + 0.03 * place)])
    found = StepSeconds(*(np.array(seconds[name]) for name in ("std", STD_AGAIN, "ale")))
    assert found.ratio()["value"] == pytest.approx(1.5, rel=2e-3)
    assert found.same_ratio()["value"] == pytest.approx(1, rel=2e-3)


def test_a_run_counts_its_own_steps_and_pays_its_probe_once():
    pair = {"arm": "cm", "probe_seconds": 30.0, "steps_per_round": 1}
    pair["arms"] = {
        "std": {"step_seconds": [[3.0], [3.0]]},
        STD_AGAIN: {"step_seconds": [[3.0], [3.0]]},
        "cm": {"step_seconds": [[2.0], [2.0]]},
    }
    found = run_ratios(pair, std_steps=100, arm_steps=125)
    assert [found["ratio"][end] for end in ("value", "low", "high")] == pytest.approx([100 * 3 / (125 * 2)] * 3)
    assert found["ratio_with_probe"]["value"] == pytest.approx(100 * 3 / (125 * 2 + 30))
    assert run_ratios(pair, std_steps=100, arm_steps=100)["ratio"]["value"] == 1.5
    assert run_ratios(pair | {"probe_seconds": None}, std_steps=10, arm_steps=10)["ratio_with_probe"]["value"] == 1.5


def test_the_table_has_a_row_a_pair_and_empty_cells_where_one_failed():
    pair = {"model": "m", "arm": "ale", "seed": 1, "mode": "interleaved", "status": "ok", "reason": None}
    pair |= {"dtype": "bf16", "frozen_layers": 3, "rounds": 2, "steps_per_round": 1, "probe_seconds": 5.0}
    ratio = {"value": 1.5, "low": 1.4, "high": 1.6, "rounds": 2, "steps": 2}
    pair |= {"ratio": ratio, "ratio_with_probe": {**ratio, "value": 1.2}, "same_ratio": {**ratio, "value": 1.0}}
    pair["arms"] = {"std": {"step_seconds": [[3.0], [5.0]]}, "ale": {"step_seconds": [[2.0], [4.0]]}}
    failed = {**pair, "status": "diverged", "reason": "x", **dict.fromkeys(RATIOS), "arms": {}}
    table = pd.DataFrame(summary_rows([pair, failed]), columns=COLUMNS)
    assert table.loc[0, [*RATIOS, "std_median_step_seconds"]].tolist() == [1.5, 1.2, 1.0, 4.0]
    assert table.loc[0, "arm_median_step_seconds"] == 3.0
    assert table.loc[1, ["ratio", "ratio_low", "std_median_step_seconds", "arm_median_step_seconds"]].isna().all()
    assert table.columns.tolist() == list(COLUMNS)


# --- the targets ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(finished, tmp_path_factory):
    """Return a copy of the finished study in which both targets have run."""
    folder = copy_study(finished, tmp_path_factory.mktemp("interleaved") / "project")
    done = snakemake(folder, "paired", "attribution", *STUDY, "--cores", "1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, said(done)[-4000:]
    return folder


@pytest.mark.slow
def test_the_paired_target_times_each_arm_beside_std(measured):
    table = pd.read_csv(measured / "results/paired/summary.csv")
    models_and_arms = [(model, arm) for model in ("tiny-llama", "tiny-neox") for arm in ("ale", "cm")]
    assert sorted(zip(table["model"], table["arm"], strict=True)) == sorted([*models_and_arms, ("tiny-llama", "lean")])
    assert set(table["mode"]) == {"interleaved"}
    assert set(table["status"]) == {"ok"}
    assert artifacts.payload(measured / "results/paired/summary.csv.lineage.json", "file")["about"]["rows"] == 5
    pair = artifacts.payload(measured / "results/paired/tiny-llama/ale/seed1.json", "paired")
    assert "not those of the ledger's runs" in pair["about"]
    assert {name: len(own["layers"]) for name, own in pair["arms"].items()} == {"std": 4, "ale": 2, STD_AGAIN: 4}
    assert pair["order"] == [["std", "ale", STD_AGAIN], [STD_AGAIN, "ale", "std"]]
    assert pair["same_ratio"]["low"] <= pair["same_ratio"]["value"] <= pair["same_ratio"]["high"]
    assert pair["frozen_layers"] == pair["arms"]["ale"]["layers"][0]
    assert np.array(pair["arms"]["std"]["step_seconds"]).shape == (2, 1)
    assert pair["ratio_with_probe"]["value"] < pair["ratio"]["value"]
    # Three steps of the study's two micro-batches of two rows.
    assert (pair["micro_batches"], len(pair["positions"])) == (6, 2)


@pytest.mark.slow
def test_std_is_timed_by_its_own_recipe(measured, tmp_path):
    """The rule gives std's own sections; where its micro-batches are others, it takes them from the same rows."""
    kept = artifacts.read(measured / "results/paired/tiny-neox/ale/seed1.json")
    config = copy.deepcopy(kept["lineage"]["config"])
    assert config["std"]["arm"] == {"layers": "all", "budget_percent": 50, "score": "l2", "draw": 0}
    assert config["std"]["adapter"] == config["adapter"]
    assert config["std"]["training"] == config["training"]
    config["std"]["adapter"] |= {"rank": 1}
    config["std"]["training"] |= {"batch_size": 1, "accumulation": 4, "gradient_checkpointing": True}
    done = run_script(
        "interleave.py",
        *("--model-lock", measured / "resources/models/tiny-neox.lock.json", "--seed", 1),
        *("--data-lock", measured / "resources/data/rows.lock.json", "--out", tmp_path / "p.json"),
        *("--selection", measured / "results/select/tiny-neox/ale/seed1.json"),
        *("--lineage", *(f"config:{name}={json.dumps(section)}" for name, section in config.items())),
    )
    assert done.returncode == 0, said(done)
    found = artifacts.payload(tmp_path / "p.json", "paired")
    assert found["status"] == "ok", found["reason"]
    parameters = {name: own["trainable_parameters"] for name, own in found["arms"].items()}
    before = {name: own["trainable_parameters"] for name, own in kept["payload"]["arms"].items()}
    assert parameters["ale"] == before["ale"]
    assert parameters["std"] == parameters[STD_AGAIN] == before["std"] / 2
    assert found["batch_plan_sha256"] == kept["payload"]["batch_plan_sha256"]


@pytest.mark.slow
def test_the_attribution_target_predicts_and_draws(measured):
    found = artifacts.payload(measured / "results/attribution/tiny-neox/seed1.json", "attribution")
    assert found["status"] == "ok"
    assert len(found["arms"]) == 10
    assert found["arms"]["checkpointing_switched"]["gradient_checkpointing"]
    assert found["arms"]["last50"]["layers"] == [2, 3]
    assert found["arms"]["last50"]["frozen_layers"] == 2
    assert found["arms"]["rank_halved"]["trainable_parameters"] * 2 == found["arms"]["all"]["trainable_parameters"]
    assert all(own["measured_seconds"]["value"] > 0 for own in found["arms"].values())
    assert (measured / "results/attribution/figS3.pdf").read_bytes().startswith(b"%PDF")
    for suffix in ("pdf", "png", "svg"):
        assert artifacts.sidecar(measured / f"results/attribution/figS3.{suffix}").is_file()


@pytest.mark.slow
def test_verify_knows_what_the_targets_leave(measured):
    names = run_script("verify.py", *STUDY, cwd=measured).stdout
    assert "summary.csv" not in names
    assert "figS3" not in names
    (measured / "results/attribution/figS3.png").rename(measured / "kept.png")
    try:
        assert "figS3.png" in run_script("verify.py", *STUDY, cwd=measured).stdout
    finally:
        (measured / "kept.png").rename(measured / "results/attribution/figS3.png")


@pytest.mark.slow
def test_the_default_target_makes_neither(measured):
    done = snakemake(measured, "-n", *STUDY, "--forceall")
    assert done.returncode == 0, said(done)[-2000:]
    assert "rule train_ale" in said(done)
    for name in ("interleave", "paired_summary", "attribute", "draw_attribution"):
        assert f"rule {name}:" not in said(done)
    again = snakemake(measured, "-n", "paired", "attribution", *STUDY)
    assert "Nothing to be done" in said(again)


@pytest.mark.slow
def test_a_probe_that_diverged_is_a_status_in_both(measured, tmp_path):
    source = measured / "results/probe/tiny-neox/seed1.json"
    broken = artifacts.read(source)
    body = copy.deepcopy(broken["payload"])
    body |= {"status": "diverged", "reason": "batch 0: loss is not finite", "scores": dict.fromkeys(body["scores"])}
    envelope = artifacts.make_envelope("probe", body, broken["lineage"], broken["observed"], source)
    path = tmp_path / "probe.json"
    path.write_bytes(artifacts.canonical_bytes(envelope))
    shared = ["--model-lock", measured / "resources/models/tiny-neox.lock.json", "--seed", 1]
    shared += ["--data-lock", measured / "resources/data/rows.lock.json", "--set", "model.dtype=fp32"]
    done = run_script("attribution.py", "--probe", path, "--out", tmp_path / "a.json", *shared)
    assert done.returncode == 0, said(done)
    found = artifacts.payload(tmp_path / "a.json", "attribution")
    assert (found["status"], found["reason"]) == ("diverged", "probe: batch 0: loss is not finite")
    selected = tmp_path / "selection.json"
    done = run_script("select_layers.py", "--probe", path, "--seed", 1, "--out", selected)
    assert done.returncode == 0, said(done)
    done = run_script("interleave.py", "--selection", selected, "--out", tmp_path / "p.json", *shared)
    assert done.returncode == 0, said(done)
    found = artifacts.payload(tmp_path / "p.json", "paired")
    assert (found["status"], found["ratio"]) == ("diverged", None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["interleave.py", "attribution.py", "paired_summary.py", "draw_attribution.py"])
def test_each_script_says_what_it_takes(name):
    done = run_script(name, "--help")
    assert done.returncode == 0
    assert "--out" in done.stdout
