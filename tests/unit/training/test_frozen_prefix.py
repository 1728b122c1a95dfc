"""States of the frozen layers, kept from a micro-batch's first visit: the same bits on every family, and bounds."""

import contextlib
import json

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.adapters import attach, audit, placement_plan
from aletheia.method.layers import adaptable_layers, decoder_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts
from aletheia.training.activation_checkpointing import checkpoint_activations
from aletheia.training.frozen_prefix import TRAIN, FrozenPrefix, Visit, around_heldout, visit_of
from aletheia.training.heldout_loss import mean_loss, row_losses
from aletheia.training.loop import Loop
from aletheia.training.prefix_blocks import DiskBlocks, MemoryBlocks
from aletheia.training.prefix_choice import PrefixPlace, choose_prefix
from aletheia.training.trainer import reference_times
from conftest import FAMILIES, random_batch, tiny_model
from loops import BF16, DTYPES, FP16, FP32, SETTINGS, nf4_model

EPOCHS, STEPS = 3, 2  # steps of an epoch
VISITED = [random_batch(2, 9 + i, i, padding=i) for i in range(2 * STEPS)] * EPOCHS
ROWS = [{"input_ids": list(range(1, 6 + i)), "labels": list(range(1, 6 + i))} for i in range(6)]


def loop_with(blocks, *, layers=(2,), model=None, dtype=FP32, checkpointing=False, batches=VISITED):
    """Return a loop over ``batches``, and its frozen prefix, None without a place for blocks."""
    model = model or tiny_model().to(DTYPES[dtype])
    plan = placement_plan(adaptable_layers(model), list(layers), rank=2, alpha=4)
    wrapped = attach(model, plan, dropout=0.0, seed=3)
    if checkpointing:
        checkpoint_activations(wrapped)
    prefix = None if blocks is None else FrozenPrefix(wrapped, min(layers), blocks)
    loop = Loop(
        wrapped,
        [TokenBatch.from_labels(**batch) for batch in batches],
        settings=SETTINGS,
        steps=len(batches) // SETTINGS["accumulation"],
        learning_rate=5e-3,
        dtype=dtype,
        seed=3,
        placement=audit(wrapped, plan),
        prefix=prefix,
    )
    return loop, prefix


def outcome(loop, steps=None):
    """Return the losses of all steps, and the adapters after them."""
    losses = [loop.step().loss for _ in range(steps or loop.steps - loop.done)]
    return losses, [p.detach().clone() for p in loop.model.parameters() if p.requires_grad]


def equal(one, other):
    return one[0] == other[0] and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@contextlib.contextmanager
def counted(loop):
    """Count the passes of the lowest layer."""
    calls = []
    hook = (
        loop.model.get_base_model()
        .get_submodule("model.layers.0.mlp")
        .register_forward_hook(lambda *_: calls.append(1))
    )
    yield calls
    hook.remove()


# --- the same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_adapters_are_those_of_a_run_without(family, dtype):
    results = []
    for blocks in (None, MemoryBlocks()):
        loop, _ = loop_with(blocks, model=tiny_model(family).to(DTYPES[dtype]), dtype=dtype)
        results.append(outcome(loop))
    assert equal(*results)
    assert results[0][0][0] != results[0][0][-1]  # it learnt something


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_files_and_checkpointing_change_nothing(kind, checkpointing, tmp_path):
    blocks = MemoryBlocks() if kind == "memory" else DiskBlocks(tmp_path, {"model": "m"})
    plain, _ = loop_with(None, dtype=BF16, checkpointing=checkpointing)
    kept, prefix = loop_with(blocks, dtype=BF16, checkpointing=checkpointing)
    assert equal(outcome(plain), outcome(kept))
    assert prefix.summary()["store"] == kind
    assert prefix.summary()["filled"] == 2 * STEPS


def test_four_bit_weights_change_nothing(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    results = []
    for blocks in (None, MemoryBlocks()):
        loop, _ = loop_with(blocks, model=nf4_model(tmp_path / "model"), dtype=BF16)
        results.append(outcome(loop))
    assert equal(*results)


def test_frozen_layers_compute_each_micro_batch_once():
    loop, _ = loop_with(MemoryBlocks())
    with counted(loop) as calls:
        outcome(loop)
    assert len(calls) == 2 * STEPS  # not 2 × STEPS × EPOCHS


def test_steps_of_the_first_epoch_compute_all_layers_and_later_ones_do_not():
    assert loop_with(MemoryBlocks())[0].computing() == [True] * STEPS + [False] * STEPS * (EPOCHS - 1)
    assert loop_with(None)[0].computing() == [True] * STEPS * EPOCHS


def test_steps_are_bought_by_the_mean_of_both_kinds(tmp_path):
    def bought_at(store):
        time = {"training_seconds": 5.0, "median_step_seconds": 1.0, "step_seconds": [3.0, 1.0, 1.0]}
        observed = {"time": time, "prefix_cache": {"store": store}}
        run = artifacts.Artifact(tmp_path, "0", {"schema": "run", "observed": observed})
        return reference_times(run, run, probe_seconds=0.0)["step_seconds"]

    assert (bought_at("off"), bought_at("disk")) == (1.0, pytest.approx(5 / 3))


def test_the_model_is_whole_again_afterwards():
    loop, _ = loop_with(MemoryBlocks())
    outcome(loop)
    token = torch.ones(1, 4, dtype=torch.int64)
    assert all("forward" not in vars(layer) for layer in decoder_layers(loop.model))
    with counted(loop) as calls:
        loop.model(input_ids=token)
    assert len(calls) == 1


def test_a_pass_that_fails_keeps_nothing_and_leaves_the_model_whole():
    loop, prefix = loop_with(MemoryBlocks())
    with pytest.raises(IndexError), prefix.block(Visit("a", TRAIN, ())):
        loop.model(input_ids=torch.full((1, 4), 10**6))
    assert all(not layer._forward_hooks for layer in decoder_layers(loop.model))
    assert prefix.summary()["filled"] == 0


def test_another_width_or_order_of_the_same_rows_is_another_block():
    batch = random_batch(2, 9, 1)
    turned = {name: tensor.flip(0) for name, tensor in batch.items()}
    wider = {
        name: torch.nn.functional.pad(t, (0, 1), value=-100 if name == "labels" else 0) for name, t in batch.items()
    }
    loop, prefix = loop_with(MemoryBlocks(), batches=[batch, turned, wider, batch])
    outcome(loop)
    assert prefix.summary()["filled"] == 3


def test_a_resumed_run_goes_on_with_the_same_bits_and_is_not_charged_for_its_own_blocks(tmp_path):
    def blocks():
        return DiskBlocks(tmp_path, {"model": "m"})

    whole, _ = loop_with(None)
    expected = outcome(whole)
    first, _ = loop_with(blocks())
    losses, _ = outcome(first, STEPS + 1)
    second, prefix = loop_with(blocks())
    second.restore(first.state())
    rest, adapters = outcome(second)
    assert equal(expected, (losses + rest, adapters))
    assert prefix.summary()["charged_seconds"] == 0 == second.prefix_seconds()


def test_a_run_that_kept_nothing_before_it_was_killed_may_keep_states_afterwards():
    first, _ = loop_with(None)
    losses, _ = outcome(first, STEPS)
    second, prefix = loop_with(MemoryBlocks())
    second.restore(first.state())
    rest, adapters = outcome(second)
    assert equal(outcome(loop_with(None)[0]), (losses + rest, adapters))
    assert prefix.summary()["filled"] == 2 * STEPS


def test_states_that_cannot_be_written_leave_the_run_as_it_was(tmp_path, monkeypatch, capsys):
    blocks = DiskBlocks(tmp_path, {"model": "m"})
    kept = []

    def keep(*args):
        kept.append(args)
        if len(kept) > 1:
            raise OSError(28, "No space left on device")
        DiskBlocks.keep(blocks, *args)

    monkeypatch.setattr(blocks, "keep", keep)
    loop, prefix = loop_with(blocks)
    assert equal(outcome(loop_with(None)[0]), outcome(loop))
    assert (len(kept), prefix.summary()["filled"]) == (2, 1)  # after the first failure none is tried
    assert capsys.readouterr().out.count("are not kept from here on: [Errno 28] No space left") == 1


def test_rows_of_another_length_are_another_block_though_padding_makes_them_equal():
    ids = torch.tensor([[1, 2, 0], [1, 2, 3]])
    masks = torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.ones(2, 3, dtype=torch.int64)
    visits = [visit_of(TokenBatch.from_labels(ids, ids, attention_mask=mask), TRAIN) for mask in masks]
    assert visits[0].key != visits[1].key
    assert visits[0].rows[1] == visits[1].rows[1]


# --- the held-out loss ------------------------------------------------------------------------------------------------


def test_the_held_out_loss_is_the_same_and_costs_the_suffix_alone():
    loop, prefix = loop_with(MemoryBlocks(), dtype=BF16)
    shape = {"batch_size": 4, "pad_token_id": 0}

    def loss(kept):
        return mean_loss(
            row for rows in row_losses(loop.model, ROWS, **shape, around=around_heldout(kept)) for row in rows
        )

    with counted(loop) as calls:
        expected = loss(None)
        assert loss(prefix) == expected
        assert len(calls) == 4
        assert loss(prefix) == expected
        assert len(calls) == 4
        outcome(loop, 2)  # the first step's rate is 0
        assert loss(prefix) == loss(None) != expected


def test_another_run_s_states_of_the_held_out_loss_are_not_charged(tmp_path):
    shape = {"batch_size": 4, "pad_token_id": 0}
    for number in range(2):
        loop, prefix = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
        list(row_losses(loop.model, ROWS, **shape, around=around_heldout(prefix)))
        assert prefix.summary()["filled"] == (0 if number else 2)
    assert prefix.summary()["charged_seconds"] == 0


def test_states_of_training_are_not_those_of_the_held_out_loss():
    batch = {"input_ids": torch.tensor([[1, 2, 3, 4, 5]]), "labels": torch.tensor([[1, 2, 3, 4, 5]])}
    loop, prefix = loop_with(MemoryBlocks(), batches=[batch, batch], dtype=BF16)
    loop.step()
    list(row_losses(loop.model, ROWS[:1], batch_size=1, pad_token_id=0, around=around_heldout(prefix)))
    assert prefix.summary()["filled"] == 2


# --- files ------------------------------------------------------------------------------------------------------------


def test_another_run_reads_the_files_and_is_charged_for_them(tmp_path):
    first, own = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
    expected = outcome(first)
    second, prefix = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
    with counted(second) as calls:
        assert equal(expected, outcome(second))
    assert len(calls) == 1  # the pass of one token that looks at what a layer returns
    told = prefix.summary()
    assert told["filled"] == 0
    assert told["read_from_others"] == 2 * STEPS
    assert 0 < told["charged_seconds"] <= own.summary()["fill_seconds"]
    assert second.prefix_seconds() == told["charged_seconds"]


def damage(path, kind):
    raw = bytearray(path.read_bytes())
    if kind == "a bit of the states":
        raw[-1] ^= 1
    elif kind == "the end cut off":
        raw = raw[: len(raw) // 2]
    elif kind == "the header":
        raw[8] ^= 255
    elif kind == "the length of the header":
        raw[:8] = b"\xff" * 8
    elif kind == "nothing in it":
        raw = b""
    elif kind == "another origin":
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(bytes(raw[8 : 8 + length]))
        header["__metadata__"]["made_by"] = "{}"
        text = json.dumps(header).encode()
        raw = len(text).to_bytes(8, "little") + text + bytes(raw[8 + length :])
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    "kind",
    [
        *("a bit of the states", "the end cut off", "the header", "the length of the header", "nothing in it"),
        "another origin",
    ],
)
def test_a_damaged_block_is_computed_anew(kind, tmp_path, capsys):
    first, _ = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
    expected = outcome(first)
    files = sorted(first_folder(tmp_path).glob("*.safetensors"))
    damage(files[0], kind)
    second, prefix = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
    assert equal(expected, outcome(second))
    assert prefix.summary()["filled"] == 1
    assert str(files[0]) in capsys.readouterr().out
    third, prefix = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
    outcome(third)
    assert prefix.summary()["filled"] == 0  # it was written again


def first_folder(path):
    return next(child for child in path.iterdir() if child.is_dir())


def test_blocks_of_another_origin_lie_elsewhere(tmp_path):
    outcome(loop_with(DiskBlocks(tmp_path, {"model": "m"}))[0])
    loop, prefix = loop_with(DiskBlocks(tmp_path, {"model": "other"}))
    outcome(loop)
    assert prefix.summary()["filled"] == 2 * STEPS
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_are_deleted_in_the_run_are_computed_anew(tmp_path):
    loop, _ = loop_with(DiskBlocks(tmp_path, {"model": "m"}))
    plain, _ = loop_with(None)
    losses, _ = outcome(loop, STEPS)
    for path in first_folder(tmp_path).iterdir():
        path.unlink()
    rest, adapters = outcome(loop)
    assert equal(outcome(plain), (losses + rest, adapters))


# --- rows of other micro-batches --------------------------------------------------------------------------------------


def redealt(batches):
    """Return the rows of some micro-batches in others: the first half of one with the second of the next."""
    rows = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for batch in batches for i in range(2)]
    rows = [{name: tensor[:, : int(row["attention_mask"].sum())] for name, tensor in row.items()} for row in rows]
    order = [*rows[1:], rows[0]]
    return [padded(order[i : i + 2]) for i in range(0, len(order), 2)]


def padded(rows):
    longest = max(row["input_ids"].shape[1] for row in rows)
    fill = {"labels": -100}
    return {
        name: torch.cat(
            [torch.nn.functional.pad(r[name], (0, longest - r[name].shape[1]), value=fill.get(name, 0)) for r in rows]
        )
        for name in rows[0]
    }


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_shared_rows_serve_other_micro_batches_and_say_how_far_off_they_are(dtype, tmp_path):
    first, _ = loop_with(DiskBlocks(tmp_path, {"model": "m"}), dtype=dtype)
    outcome(first)
    deal = redealt(VISITED[: 2 * STEPS]) * EPOCHS
    plain, _ = loop_with(None, batches=deal, dtype=dtype)
    expected, _ = outcome(plain)
    loop, prefix = loop_with(DiskBlocks(tmp_path, {"model": "m"}, shared=True), batches=deal, dtype=dtype)
    losses, _ = outcome(loop)
    told = prefix.summary()
    assert (told["exact"], told["filled"], told["gathered"]) == (False, 1, 2 * STEPS - 1)
    assert 0 <= told["difference"]["relative"] <= (1e-6 if dtype == FP32 else 1e-2)
    assert losses == pytest.approx(expected, rel=1e-5 if dtype == FP32 else 1e-2)
    assert told["charged_seconds"] > 0


def test_without_shared_rows_of_other_micro_batches_are_computed_anew(tmp_path):
    outcome(loop_with(DiskBlocks(tmp_path, {"model": "m"}))[0])
    loop, prefix = loop_with(DiskBlocks(tmp_path, {"model": "m"}), batches=redealt(VISITED[: 2 * STEPS]) * EPOCHS)
    outcome(loop)
    told = prefix.summary()
    assert (told["exact"], told["filled"], told["difference"]) == (True, 2 * STEPS, None)


# --- what is chosen ---------------------------------------------------------------------------------------------------


def chosen(setting, *, layers=(2,), batches=VISITED, bound_gib=1.0, folder=None, change=None):
    model = tiny_model()
    wrapped = attach(model, placement_plan(adaptable_layers(model), list(layers), rank=2, alpha=4), dropout=0.1, seed=1)
    if change:
        change(wrapped.get_base_model())
    train = [TokenBatch.from_labels(**batch) for batch in batches]
    return choose_prefix(setting, wrapped, min(layers), train=train, heldout=[], place=PrefixPlace(folder, bound_gib))


def dropout_in_layer_0(model):
    model.model.layers[0].self_attn.attention_dropout = 0.1


def dropout_that_is_a_number(model):
    model.model.layers[1].residual_dropout = 0.1


def dropout_of_the_configuration(model):
    model.config.hidden_dropout = 0.1


def dropout_of_another_head(model):
    model.config.classifier_dropout = 0.1


def dropout_in_the_adapted_layer(model):
    model.model.layers[2].self_attn.attention_dropout = 0.1


def test_auto_keeps_states_where_micro_batches_come_again():
    choice = chosen("auto")
    positions = sum(batch["input_ids"].numel() for batch in VISITED[: 2 * STEPS])
    assert (choice.store, choice.reason) == ("memory", None)
    assert choice.bytes == positions * tiny_model().config.hidden_size * 4
    assert chosen("auto", change=dropout_in_the_adapted_layer).store == "memory"
    assert chosen("auto", change=dropout_of_another_head).store == "memory"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"batches": VISITED[: 2 * STEPS]}, "no micro-batch is visited twice"),
        ({"layers": (0, 2)}, "layer 0 is adapted, so that nothing lies below"),
        ({"change": dropout_in_layer_0}, "found model.layers.0.self_attn.attention_dropout=0.1"),
        ({"change": dropout_that_is_a_number}, "found model.layers.1.residual_dropout=0.1"),
        ({"change": dropout_of_the_configuration}, "found config.hidden_dropout=0.1"),
        ({"bound_gib": 1e-6}, "more than training.prefix_cache_gib=1e-06"),
    ],
)
def test_auto_keeps_none_where_that_is_of_no_use_and_says_why(given, why):
    choice = chosen("auto", **given)
    assert choice.store == "off"
    assert why in choice.reason


@pytest.mark.parametrize("setting", ["memory", "disk"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"change": dropout_in_layer_0}, "attention_dropout=0.1; write prefix_cache: off"),
        ({"bound_gib": 1e-6}, "rows × tokens × width × bytes"),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_refused(setting, given, says, tmp_path):
    with pytest.raises(UserError, match=says):
        chosen(setting, folder=tmp_path, **given)


def test_off_is_off_and_files_need_a_folder():
    assert chosen("off").store == chosen(False).store == "off"
    with pytest.raises(UserError, match="expected a folder"):
        chosen("disk")


def test_nothing_can_be_kept_below_layer_0():
    with pytest.raises(ValueError, match="above 0"):
        FrozenPrefix(tiny_model(), 0, MemoryBlocks())
