"""Layers that take turns in training (LISA): who trains when, what is frozen meanwhile, and nothing else changes."""

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.layers import decoder_layers, layer_index
from aletheia.training.trainer import TrainingRecord, train
from conftest import FAMILIES, random_batch, tiny_model
from loops import BF16, FP16, FP32, SETTINGS, looped

ACTIVE = {"every": 2, "count": 1, "draw": 0}
REPEATED = [random_batch(2, 10, i % 2) for i in range(32)]


def adapters(loop):
    """Return ``{layer: {name: parameter}}`` of all adapters, frozen ones too."""
    found = {}
    for name, parameter in loop.model.get_base_model().named_parameters():
        if ".lora_" in name:
            found.setdefault(layer_index(name), {})[name] = parameter
    return found


def values(loop):
    """Return what a step may change: value, moments and number of updates of each adapter, by layer and name."""
    moments = loop._optimizer.state
    return {
        layer: {
            name: [parameter.detach().clone(), *(moments[parameter][key].clone() for key in sorted(moments[parameter]))]
            if parameter in moments
            else [parameter.detach().clone()]
            for name, parameter in named.items()
        }
        for layer, named in adapters(loop).items()
    }


def equal(one, other):
    return {
        layer: all(
            len(one[layer][name]) == len(other[layer][name])
            and all(map(torch.equal, one[layer][name], other[layer][name]))
            for name in one[layer]
        )
        for layer in one
    }


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("optimizer", [{}, {"loraplus_lr_ratio": 4, "weight_decay": 0.5}])
def test_a_period_moves_its_own_layers_alone_and_the_others_keep_values_and_moments(dtype, optimizer):
    settings = {"warmup_steps": 0, "optimizer": {**SETTINGS["optimizer"], **optimizer}}
    loop, _ = looped([0, 1, 2], steps=8, dtype=dtype, dropout=0.1, layers_active=ACTIVE, **settings)
    moved = []
    for _ in range(4):
        before = values(loop)
        assert all(loop.step().failure is None for _ in range(2))
        moved.append([layer for layer, same in equal(before, values(loop)).items() if not same])
    assert moved == [each["layers"] for each in loop.active_layers()]
    assert [each["step"] for each in loop.active_layers()] == [0, 2, 4, 6]
    assert len({tuple(layers) for layers in moved}) > 1
    assert all(len(layers) == 1 for layers in moved)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_gradient_enters_the_lowest_active_layer(family, checkpointing):
    loop, _ = looped(
        [0, 1, 2], model=tiny_model(family), steps=6, checkpointing=checkpointing, layers_active=ACTIVE | {"every": 1}
    )
    entering = {}
    for index, layer in enumerate(decoder_layers(loop.model)):
        layer.register_forward_pre_hook(
            lambda _, args, kwargs, index=index: entering.update(
                {index: (args or [kwargs["hidden_states"]])[0].requires_grad}
            ),
            with_kwargs=True,
        )
    for _ in range(6):
        loop.step()
        (active,) = loop.active_layers()[-1]["layers"]
        assert entering == {index: index > active for index in range(3)}
        graded = {layer for layer, named in adapters(loop).items() for p in named.values() if p.grad is not None}
        assert graded == {active}
    assert loop.placement["frozen_layers"] == min(each["layers"][0] for each in loop.active_layers())


def test_a_layer_below_that_asks_for_gradients_is_seen_at_the_switch():
    loop, _ = looped([0, 1, 2], steps=8, layers_active=ACTIVE)
    loop.step()
    loop.step()
    loop.model.get_base_model().enable_input_require_grads()
    with pytest.raises(UserError, match="expected no gradient to enter the lowest adapted layer"):
        loop.step()


def test_checkpointing_changes_no_bit_of_layers_that_take_turns():
    plain, recomputed = (looped([0, 1, 2], steps=6, checkpointing=on, layers_active=ACTIVE)[0] for on in (False, True))
    assert [plain.step() for _ in range(6)] == [recomputed.step() for _ in range(6)]
    assert set(equal(values(plain), values(recomputed)).values()) == {True}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [FP32, FP16])
@pytest.mark.parametrize("done", [3, 4])
def test_a_resumed_run_goes_on_bit_for_bit_within_a_period_and_at_its_end(dtype, done, tmp_path):
    settings = {
        "steps": 8,
        "dtype": dtype,
        "dropout": 0.1,
        "layers_active": {"every": 2, "count": 2},
        "checkpointing": True,
    }
    whole, _ = looped([0, 1, 2], **settings)
    expected = [whole.step() for _ in range(8)]
    killed, _ = looped([0, 1, 2], **settings)  # a new one seeds the generator of the masks
    assert [killed.step() for _ in range(done)] == expected[:done]
    torch.save(killed.state(), tmp_path / "state.pt")
    resumed, _ = looped([0, 1, 2], **settings)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [resumed.step() for _ in range(8 - done)] == expected[done:]
    assert set(equal(values(whole), values(resumed)).values()) == {True}
    assert resumed.active_layers() == whole.active_layers()
    assert resumed.placement == whole.placement


def test_every_layer_has_its_turn_and_seeds_and_draws_differ():
    drawn = [
        looped([0, 1, 2], seed=seed, layers_active={"every": 1, "count": 1, "draw": draw})[0]._active.periods(300)
        for seed, draw in ((3, 0), (3, 1), (4, 0))
    ]
    counts = [sum(each["layers"] == [layer] for each in drawn[0]) for layer in range(3)]
    assert sum(counts) == 300
    assert min(counts) > 60  # of 100 ± 8
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_all_layers_but_one_still_learn():
    loop, _ = looped([0, 1, 2], steps=16, layers_active={"every": 3, "count": 2}, batches=REPEATED)
    record = train(loop, TrainingRecord())
    assert record.status == "ok"
    assert record.losses[-1] < record.losses[0] - 0.05


@pytest.mark.parametrize("count", [2, 3])
def test_as_many_active_layers_as_adapted_ones_are_refused(count):
    with pytest.raises(UserError, match=rf"count: expected less than 2, the adapted layers of this run, found {count}"):
        looped([0, 2], layers_active={"every": 1, "count": count})
