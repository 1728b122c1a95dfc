"""What tests of training share: loops over a tiny model with adapters, and a model whose weights are 4-bit."""

import torch

from aletheia.method.adapters import attach, audit, placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.study.schema import section_defaults
from aletheia.training.activation_checkpointing import checkpoint_activations
from aletheia.training.loop import Loop
from aletheia.training.trainer import TrainingRecord, train
from conftest import random_batch, tiny_model

SETTINGS = {**section_defaults("training"), "steps": 4, "accumulation": 2, "warmup_steps": 1}
BF16, FP16, FP32 = "bf16", "fp16", "fp32"
DTYPES = {BF16: torch.bfloat16, FP16: torch.float16, FP32: torch.float32}


def looped(
    layers, *, model=None, steps=4, seed=3, batches=None, dropout=0.0, dtype=FP32, checkpointing=False, **settings
):
    """Return a loop over a tiny model with adapters in ``layers``, and the adapters' audit."""
    model = (model or tiny_model()).to(DTYPES[dtype])
    plan = placement_plan(adaptable_layers(model), layers, rank=2, alpha=4)
    wrapped = attach(model, plan, dropout=dropout, seed=seed)
    if checkpointing:
        checkpoint_activations(wrapped)
    placement = audit(wrapped, plan)
    loop = Loop(
        wrapped,
        [TokenBatch.from_labels(**b) for b in batches or [random_batch(2, 10, i) for i in range(2 * steps)]],
        settings={**SETTINGS, **settings},
        steps=steps,
        learning_rate=5e-3,
        dtype=dtype,
        seed=seed,
        placement=placement,
    )
    return loop, placement


def trained(layers, *, time_limit=None, **changes):
    """Return a trained model and the record of its training."""
    loop, _ = looped(layers, **changes)
    return loop.model, train(loop, TrainingRecord(), time_limit=time_limit)


def nf4_model(folder):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=quantised)
