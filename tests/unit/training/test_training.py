"""The same work in every arm, the paper's optimiser, honest clocks, and failures that are statuses."""

import math
import time

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.adapters import attach, placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.training.heldout_loss import RowLoss, mean_loss, row_losses
from aletheia.training.optimizer import schedule
from aletheia.training.trainer import TrainingRecord, planned_steps, timing, train
from conftest import random_batch, tiny_model
from loops import SETTINGS, looped, trained


def test_arms_with_the_same_layers_have_the_same_losses_bit_for_bit():
    first, second = (trained([0, 2], dropout=0.1)[1] for _ in range(2))
    assert first.losses == second.losses
    assert len(first.losses) == len(first.step_seconds) == 4


def test_a_longer_arm_has_other_rates_but_the_same_first_step():
    short = trained([0], steps=4)[1]
    longer = trained([0], steps=5)[1]
    assert longer.losses[0] == short.losses[0]


def plain_loop(model, batches, steps):
    """Return the losses of the paper's recipe, written out: AdamW, cosine after one warm-up step, clipping at 1."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, betas=(0.9, 0.95), eps=1e-7, weight_decay=0.01)
    losses = []
    model.train()
    for step in range(steps):
        rate = step if step < 1 else 0.5 * (1 + math.cos(math.pi * (step - 1) / (steps - 1)))
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * rate
        micro = batches[2 * step : 2 * step + 2]
        targets = sum(int((b["labels"][:, 1:] != -100).sum()) for b in micro)
        total = 0.0
        for batch in micro:
            own = int((batch["labels"][:, 1:] != -100).sum())
            loss = model(**batch).loss * own / targets
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def test_the_loop_is_the_papers_recipe():
    batches = [random_batch(2, 10, i, padding=i % 3) for i in range(8)]
    _, record = trained([0, 1, 2], batches=batches)
    model = tiny_model()
    plain = attach(model, placement_plan(adaptable_layers(model), [0, 1, 2], rank=2, alpha=4), dropout=0, seed=3)
    assert record.losses == pytest.approx(plain_loop(plain, batches, 4), rel=1e-4)


def test_nothing_below_the_lowest_adapted_layer_receives_gradient():
    model = tiny_model()
    seen = {}
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda _, args, index=index: seen.update({index: args[0].requires_grad}))
    trained([1], model=model)
    # The hidden state that enters the lowest adapted layer has no gradient function; the one after it has.
    assert seen == {0: False, 1: False, 2: True}


def test_only_adapters_change():
    before = {n: p.clone() for n, p in tiny_model().named_parameters()}
    wrapped, _ = trained([1])
    after = {n.removeprefix("base_model.model.").replace(".base_layer", ""): p for n, p in wrapped.named_parameters()}
    assert all(torch.equal(after[name], p) for name, p in before.items())
    assert all(p.abs().sum() > 0 for n, p in after.items() if ".lora_B." in n)


@pytest.mark.parametrize(
    ("limit", "left", "ended"),
    [
        (None, 3600, None),
        (None, 60, "stopped 120 s before the job's wall limit"),
        (0.000001, 3600, "past the limit of 1e-06 s"),
        (3600, 60, "stopped 120 s before the job's wall limit"),
    ],
)
def test_a_run_ends_by_its_limit_or_before_its_job_does(monkeypatch, limit, left, ended):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + left))
    _, record = trained([0], time_limit=limit)
    expected = ("timeout", ended, 1) if ended else ("ok", None, 4)
    assert (record.status, record.reason, len(record.losses)) == expected


def test_a_loss_that_is_not_finite_stops_the_run_as_a_status():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    _, record = trained([1], model=model)
    assert (record.status, record.losses) == ("diverged", [])
    assert record.reason == "the loss of step 1 is not finite; first not finite: the output of lm_head"
    assert len(record.step_seconds) == 1


def test_a_passed_time_limit_is_a_status():
    _, record = trained([1], time_limit=1e-9)
    assert record.status == "timeout"
    assert len(record.losses) == 1


def test_exhausted_memory_is_a_status(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(model.model, "forward", lambda *a, **k: torch.empty(2**55))
    _, record = trained([1], model=model)
    assert record.status == "out_of_memory"


@pytest.mark.parametrize(
    ("arm", "measured", "steps"),
    [
        ({"layers": "all"}, None, 200),
        ({"layers": "gradient", "extra_steps_percent": 25}, None, 250),
        (
            {"layers": "gradient", "steps": "measured"},
            {"std_seconds": 100.0, "step_seconds": 0.3, "probe_seconds": 4.0},
            320,
        ),
    ],
)
def test_steps_of_an_arm(arm, measured, steps):
    assert planned_steps({"steps": 200}, arm, measured) == steps


def test_measured_steps_need_finished_runs():
    with pytest.raises(UserError, match="finished std and ale run"):
        planned_steps(
            {"steps": 200}, {"steps": "measured"}, {"std_seconds": None, "step_seconds": 1.0, "probe_seconds": 0.0}
        )


def test_the_clock_keeps_warm_up_and_probe_apart():
    record = TrainingRecord(step_seconds=[9.0, 1.0, 2.0, 3.0])
    assert timing(record, warmup=1, probe_seconds=5.0) == {
        "total_seconds": 20.0,
        "training_seconds": 15.0,
        "median_step_seconds": 2.0,
        "step_seconds": [9.0, 1.0, 2.0, 3.0],
        "warmup_seconds": 9.0,
        "probe_seconds": 5.0,
        "prefix_seconds": 0.0,
        "resumed_at": [],
        "comparable": True,
    }
    # What another run did of this one's training is time of its training.
    charged = timing(record, warmup=1, probe_seconds=5.0, prefix_seconds=2.0)
    assert (charged["training_seconds"], charged["total_seconds"]) == (17.0, 22.0)


def test_held_out_loss_equals_the_models_own():
    model = tiny_model()
    rows = [random_batch(1, n, n) for n in (5, 9, 7)]
    examples = [{k: b[k][0].tolist() for k in ("input_ids", "labels")} for b in rows]
    model.train()
    passes = list(row_losses(model, examples, batch_size=2, pad_token_id=0))
    assert model.training
    assert [[row.index for row in rows] for rows in passes] == [[0, 2], [1]]  # by length
    found = sorted(row for rows in passes for row in rows)
    model.eval()
    with torch.no_grad():
        own = [float(model(**batch).loss) for batch in rows]
    assert [row.total / row.tokens for row in found] == pytest.approx(own, rel=1e-5)
    assert [row.tokens for row in found] == [4, 8, 6]
    assert mean_loss(found) == pytest.approx(sum(row.total for row in found) / 18)
    assert mean_loss([]) is None
    assert mean_loss([*found, RowLoss(3, 1, math.nan)]) is None


@pytest.mark.parametrize(("warmup_from", "rates"), [(0, [0, 1 / 3, 2 / 3, 1]), ("first_step", [1 / 3, 2 / 3, 1])])
@pytest.mark.parametrize("name", ["cosine", "linear", "constant_with_warmup"])
def test_a_warm_up_begins_at_zero_or_at_its_first_rise(name, warmup_from, rates):
    """As written out; and from the first step on it is the other schedule of one step more, without its first."""
    found = {}
    for begins, steps in ((warmup_from, 8), (0, 9)):
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.AdamW([weight], lr=1.0)
        settings = {"schedule": name, "warmup_steps": 3, "warmup_from": begins}
        made = schedule(optimizer, settings, steps)
        for _ in range(steps):
            found.setdefault((begins, steps), []).append(made.get_last_lr()[0])
            optimizer.step()
            made.step()
    assert found[warmup_from, 8][: len(rates)] == pytest.approx(rates)
    if warmup_from == "first_step":
        assert found[warmup_from, 8] == found[0, 9][1:]
        assert found[warmup_from, 8][-1] > 0, "the last step teaches too"


def test_held_out_losses_on_the_way_change_nothing_and_stand_outside_the_clock():
    plain = trained([0, 2], dropout=0.1)[1]
    loop, _ = looped([0, 2], dropout=0.1)
    examples = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}]

    def slow_loss():
        time.sleep(0.2)
        return mean_loss(row for rows in row_losses(loop.model, examples, batch_size=1, pad_token_id=0) for row in rows)

    record = train(loop, TrainingRecord(), heldout=slow_loss, curve_every=2, time_limit=60)
    assert record.losses == plain.losses
    assert [point["step"] for point in record.curve] == [0, 2], "the last one is the caller's"
    assert record.curve[0]["heldout_loss"] != record.curve[1]["heldout_loss"]
    assert math.fsum(record.step_seconds) < 2 * 0.2 + math.fsum(plain.step_seconds)


def test_a_time_limit_is_on_training_and_not_on_held_out_losses():
    loop, _ = looped([0], steps=4)
    record = train(loop, TrainingRecord(), heldout=lambda: time.sleep(0.4), curve_every=1, time_limit=0.9)
    assert (record.status, len(record.curve)) == ("ok", 4)
    assert record.curve[0] == {"step": 0, "heldout_loss": None}


def test_a_resumed_curve_begins_once():
    loop, _ = looped([0], steps=4)
    record = TrainingRecord(curve=[{"step": 0, "heldout_loss": 3.0}])
    assert [point["step"] for point in train(loop, record, heldout=lambda: 2.0, curve_every=3).curve] == [0, 3]


@pytest.mark.parametrize("warmup_from", [0, "first_step"])
def test_loraplus_steps_b_at_a_ratio_of_the_rate_of_a(warmup_from):
    """B starts at zero and A's gradient with it, so the first step that has a rate moves B alone, by so many times."""

    def matrices(ratio, done):
        optimizer = {**SETTINGS["optimizer"], "loraplus_lr_ratio": ratio}
        loop, _ = looped([0, 2], optimizer=optimizer, warmup_from=warmup_from, warmup_steps=1)
        for _ in range(done):
            loop.step()
        return loop, {name: p.detach().clone() for name, p in loop.model.named_parameters() if p.requires_grad}

    done = 2 if warmup_from == 0 else 1
    (_, plain), (faster, scaled) = (matrices(ratio, done) for ratio in (1, 16))
    for name, values in scaled.items():
        factor = 16 if ".lora_B." in name else 1
        assert torch.allclose(values, factor * plain[name], rtol=1e-5, atol=0), name
    assert any(values.any() for name, values in scaled.items() if ".lora_B." in name)
    # The schedule moves both rates alike, to the end and from a checkpoint on.
    faster.step()
    of_a, of_b = (group["lr"] for group in faster._optimizer.param_groups)
    assert of_b == pytest.approx(16 * of_a)
    resumed, _ = matrices(16, 0)
    resumed.restore(faster.state())
    assert resumed.step() == faster.step()
