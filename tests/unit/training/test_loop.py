"""One step of training: the loss of the targets alone, the frozen prefix, precision, and where finite numbers end."""

import contextlib
import copy
import math

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.adapters import attach, placement_plan
from aletheia.method.attention import FP32 as FP32_ATTENTION
from aletheia.method.attention import register_fp32_attention
from aletheia.method.layers import adaptable_layers, decoder_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.method.token_loss import token_losses
from aletheia.training.activation_checkpointing import checkpoint_activations
from aletheia.training.loop import MAX_SKIPPED_STEPS
from aletheia.training.trainer import TrainingRecord, train
from conftest import FAMILIES, random_batch, tiny_model
from loops import BF16, FP16, FP32, looped, nf4_model, trained


def adapter_gradients(loop):
    """Return the gradient of every adapter after one step."""
    loop.step()
    return {name: p.grad.clone() for name, p in loop.model.named_parameters() if p.requires_grad}


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_logits_are_computed_where_a_target_is_predicted_and_nowhere_else():
    loop, _ = looped([1])
    batch = random_batch(2, 10, 0, padding=3)
    batch["labels"][:, :5] = -100
    shapes = []
    loop.model.get_output_embeddings().register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    token_losses(loop.model, TokenBatch.from_labels(**batch))
    assert shapes == [(4, 96)]  # two sequences, tokens 5 and 6 of ten


def test_the_hook_does_not_outlive_the_loss():
    loop, _ = looped([1])
    loop.step()
    assert loop.model(input_ids=torch.ones(1, 4, dtype=torch.int64)).logits.shape == (1, 4, 96)


def stock_losses(dtype, batches, steps, tmp_path):
    """Return the losses of transformers' own Trainer on the same batches."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = tiny_model().to({BF16: torch.bfloat16, FP32: torch.float32}[dtype])
    wrapped = attach(model, placement_plan(adaptable_layers(model), [0, 2], rank=2, alpha=4), dropout=0, seed=3)
    seen, losses = [], []

    class Kept(Trainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            seen.append(float(loss))
            return loss

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            losses.append(sum(seen))
            seen.clear()

    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=steps, per_device_train_batch_size=1, gradient_accumulation_steps=2,
        learning_rate=5e-3, lr_scheduler_type="cosine", warmup_steps=1, adam_beta2=0.95, adam_epsilon=1e-7,
        weight_decay=0.01, bf16=dtype == BF16, use_cpu=True, train_sampling_strategy="sequential",
        remove_unused_columns=False, logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    Kept(
        model=wrapped,
        args=arguments,
        train_dataset=batches,
        data_collator=lambda items: dict(items[0]),
        callbacks=[Watch()],
    ).train()
    return losses


@pytest.mark.parametrize(("dtype", "tolerance"), [(FP32, 1e-5), (BF16, 2e-3)])
def test_the_losses_are_those_of_transformers_trainer(dtype, tolerance, tmp_path):
    batches = [random_batch(2, 10, i, padding=i % 3) for i in range(12)]
    _, record = trained([0, 2], batches=batches, steps=6, dtype=dtype)
    assert record.losses == pytest.approx(stock_losses(dtype, batches, 6, tmp_path), rel=tolerance)


# --- the frozen prefix ------------------------------------------------------------------------------------------------


def kept_by_layer(loop):
    """Return how many tensors the backward pass keeps from each layer's forward pass."""
    kept, current = {}, [None]

    def enter(index):
        return lambda *_: current.__setitem__(0, index)

    def count(tensor):
        if current[0] is not None:
            kept[current[0]] = kept.get(current[0], 0) + 1
        return tensor

    layers = decoder_layers(loop.model)
    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(enter(index))
        layer.register_forward_hook(enter(None))
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loop.step()
    return kept


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_layers_below_the_lowest_adapter_keep_nothing(dtype, checkpointing):
    loop, _ = looped([2], dtype=dtype, checkpointing=checkpointing)
    kept = kept_by_layer(loop)
    assert set(kept) == {2}
    assert loop.placement["frozen_layers"] == 2
    assert loop.placement["compute_dtype"] == {FP32: "float32", BF16: "bfloat16", FP16: "float16"}[dtype]


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_leaves_no_gradient_function_below_the_lowest_adapter(family):
    loop, placement = looped([1], model=tiny_model(family), checkpointing=True)
    seen = []
    for layer in decoder_layers(loop.model):
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args or [kwargs["hidden_states"]])[0].grad_fn), with_kwargs=True
        )
    loop.step()
    assert seen[:2] == [None, None]
    assert seen[2] is not None
    assert (loop.placement["frozen_layers"], "frozen_layers" in placement) == (1, False)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_changes_no_gradient(family):
    plain, recomputed = (
        adapter_gradients(looped([1, 2], model=tiny_model(family), checkpointing=on)[0]) for on in (False, True)
    )
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_checkpointing_draws_the_same_dropout_in_every_precision(dtype):
    changes = {"dropout": 0.3, "dtype": dtype}
    plain = adapter_gradients(looped([1, 2], **changes)[0])
    recomputed = adapter_gradients(looped([1, 2], checkpointing=True, **changes)[0])
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


def test_checkpointing_keeps_less_than_the_plain_pass():
    plain, recomputed = (sum(kept_by_layer(looped([0, 1, 2], checkpointing=on)[0]).values()) for on in (False, True))
    assert recomputed < plain / 3


def test_a_gradient_that_enters_the_lowest_adapted_layer_is_refused():
    loop, _ = looped([1])
    loop.model.get_base_model().enable_input_require_grads()
    with pytest.raises(UserError, match="layer 1: expected no gradient to enter the lowest adapted layer"):
        loop.step()


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_each_precision_trains_and_says_what_computed(dtype):
    loop, placement = looped([0, 2], steps=12, dtype=dtype, batches=[random_batch(2, 10, i % 2) for i in range(24)])
    record = train(loop, TrainingRecord())
    assert record.status == "ok"
    assert record.losses[-1] < record.losses[0] - 0.05
    assert placement["dtype"] == "float32"
    assert loop.model.get_base_model().lm_head.weight.dtype is {FP32: torch.float32, BF16: torch.bfloat16}.get(
        dtype, torch.float16
    )


def test_a_precision_that_does_not_compute_is_refused():
    loop, _ = looped([0], dtype=FP32)
    loop._dtype = torch.float16
    loop._computation.autocast = contextlib.nullcontext
    with pytest.raises(UserError, match=r"expected to compute in torch.float16, found torch.float32"):
        loop.step()


def test_fp16_scales_the_loss_and_skips_a_step_that_overflows():
    loop, _ = looped([0, 2], dtype=FP16)
    loop._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=1000)
    before = {n: p.clone() for n, p in loop.model.named_parameters() if p.requires_grad}
    first = loop.step()
    assert math.isfinite(first.loss)
    assert not math.isfinite(first.gradient_norm)
    assert first.failure is None
    assert all(torch.equal(before[n], p) for n, p in loop.model.named_parameters() if p.requires_grad)
    assert loop._scaler.get_scale() == 2.0**39


def test_an_fp16_run_whose_every_step_overflows_ends_as_diverged():
    loop, _ = looped([0, 2], steps=MAX_SKIPPED_STEPS + 2, dtype=FP16)
    loop._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    record = train(loop, TrainingRecord())
    assert record.status == "diverged"
    assert record.reason.startswith(f"the gradient of step {MAX_SKIPPED_STEPS} is not finite; first not finite: ")
    assert record.skipped_steps == MAX_SKIPPED_STEPS - 1


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_a_gradient_that_is_not_finite_stops_the_run_and_leaves_the_adapters(dtype):
    loop, _ = looped([0, 2], dtype=dtype)
    before = {n: p.clone() for n, p in loop.model.named_parameters() if p.requires_grad}
    layer = decoder_layers(loop.model)[1]
    layer.register_full_backward_hook(lambda _, inputs, outputs: tuple(g * math.inf for g in inputs if g is not None))
    record = train(loop, TrainingRecord())
    assert record.status == "diverged"
    assert record.reason.startswith("the gradient of step 1 is not finite; first not finite: model.layers.0.")
    assert all(torch.equal(before[n], p) for n, p in loop.model.named_parameters() if p.requires_grad)


def neox(gain=1.0, seed=0):
    """Return a GPT-NeoX whose first MLP multiplies by ``gain``."""
    model = tiny_model("gpt_neox", seed)
    with torch.no_grad():
        model.gpt_neox.layers[1].mlp.dense_h_to_4h.weight.mul_(gain)
    return model


def test_a_gpt_neox_that_overflows_in_fp16_diverges_and_the_first_module_is_named():
    _, record = trained([0, 2], model=neox(1e6), dtype=FP16)
    assert record.status == "diverged"
    assert record.losses == []
    assert record.reason == (
        "the loss of step 1 is not finite; first not finite: the output of gpt_neox.layers.1.mlp.dense_h_to_4h"
    )


def test_the_same_gpt_neox_trains_in_bf16():
    _, record = trained([0, 2], model=neox(1e6), dtype=BF16)
    assert record.status == "ok"
    assert all(map(math.isfinite, record.losses))


def test_attention_in_fp32_survives_scores_beyond_fp16():
    register_fp32_attention()
    losses = {}
    for implementation in ("eager", FP32_ATTENTION):
        model = tiny_model("gpt_neox")
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            model.gpt_neox.layers[0].attention.query_key_value.weight.mul_(4e3)
        _, record = trained([0, 2], model=model, dtype=FP16)
        losses[implementation] = record
    assert losses["eager"].status == "diverged"
    assert ".attention" in losses["eager"].reason
    assert losses[FP32_ATTENTION].status == "ok"


def test_attention_in_fp32_equals_the_models_own_where_both_are_fp32():
    register_fp32_attention()
    ids = random_batch(2, 9, 0)["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    plain = tiny_model("gpt_neox")
    other = copy.deepcopy(plain)
    other.set_attn_implementation(FP32_ATTENTION)
    with torch.no_grad():
        expected, found = (m(input_ids=ids, attention_mask=mask).logits for m in (plain, other))
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_a_loss_that_is_not_finite_changes_no_adapter_though_gradients_are(dtype):
    loop, _ = looped([0, 2], dtype=dtype)
    before = {n: p.clone() for n, p in loop.model.named_parameters() if p.requires_grad}
    head = loop.model.get_output_embeddings()
    head.register_forward_hook(
        lambda _, __, logits: logits.index_fill(1, torch.tensor([5]), math.inf).detach() + logits
    )
    step = loop.step()
    assert not math.isfinite(step.loss)
    assert all(torch.equal(before[n], p) for n, p in loop.model.named_parameters() if p.requires_grad)


def test_gradients_whose_norm_overflows_are_told_apart():
    loop, _ = looped([0, 2])
    loop._clip = float("inf")
    for name, parameter in loop.model.named_parameters():
        if parameter.requires_grad and ".lora_B." in name:
            parameter.register_hook(lambda gradient: torch.full_like(gradient, 1e38))
    assert loop.step().failure == "the gradient of step 1 is not finite; no single one shows it, their norm overflows"


# --- 4-bit ------------------------------------------------------------------------------------------------------------


def quantised_loop(folder, layers, *, checkpointing=False, steps=4):
    model = nf4_model(folder)
    model.to = lambda dtype: model  # looped's cast, which 4-bit weights refuse
    batches = [random_batch(2, 10, i % 2) for i in range(2 * steps)]
    return looped(layers, model=model, dtype=BF16, checkpointing=checkpointing, steps=steps, batches=batches)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_4_bit_model_trains_and_its_prefix_stays_frozen(nf4_folder, checkpointing):
    loop, _ = quantised_loop(nf4_folder, [1, 2], checkpointing=checkpointing, steps=12)
    assert kept_by_layer(loop).keys() == {1, 2}
    record = train(loop, TrainingRecord())
    assert record.losses[-1] < record.losses[0]
    assert (loop.placement["frozen_layers"], loop.placement["compute_dtype"]) == (1, "bfloat16")
    assert type(loop.model.get_base_model().model.layers[1].mlp.up_proj.base_layer).__name__ == "Linear4bit"


def test_4_bit_adapter_gradients_are_the_same_with_checkpointing(nf4_folder):
    plain, recomputed = (
        adapter_gradients(quantised_loop(nf4_folder, [1, 2], checkpointing=on)[0]) for on in (False, True)
    )
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_a_restored_loop_goes_on_bit_for_bit(dtype, tmp_path):
    changes = {"steps": 6, "dropout": 0.2, "dtype": dtype}
    _, whole = trained([0, 2], **changes)
    first, _ = looped([0, 2], **changes)
    losses = [first.step().loss for _ in range(3)]
    torch.save(first.state(), tmp_path / "state.pt")
    second, _ = looped([0, 2], **changes)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    losses += [second.step().loss for _ in range(3)]
    assert losses == whole.losses


def test_checkpoint_activations_leaves_no_input_hooks():
    model = tiny_model()
    wrapped = attach(model, placement_plan(adaptable_layers(model), [2], rank=2, alpha=4), dropout=0, seed=0)
    checkpoint_activations(wrapped)
    assert not wrapped.get_input_embeddings()._forward_hooks
