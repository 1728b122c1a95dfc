"""Adapters where the gradient says, trained by the Trainer of transformers: a script to copy from.

Rows are JSONL with ``instruction``, ``output`` and perhaps ``input``. What it trained loads with PEFT's
``AutoPeftModelForCausalLM.from_pretrained``.
"""

import argparse
import json
import random

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from aletheia import lora_config, probe_layers, select_layers

PROBE_BATCHES = 5  # as in the paper


def encode(row, tokenizer, max_tokens):
    """Return a row's tokens, and labels that leave its prompt out."""
    prompt = "\n\n".join(row[key] for key in ("instruction", "input") if row.get(key)) + "\n\n"
    asked = tokenizer(prompt)["input_ids"]
    answer = tokenizer(row["output"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    return {"input_ids": (asked + answer)[:max_tokens], "labels": ([-100] * len(asked) + answer)[:max_tokens]}


def main():
    """Probe, select, attach, train, and save the adapter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("model", help="folder of a model, or its id on the hub")
    parser.add_argument("rows", help="JSONL with instruction, input (optional) and output")
    parser.add_argument("--out", default="adapter", help="where the adapter goes")
    parser.add_argument("--budget", type=float, default=50, help="percent of the layers that get adapters")
    parser.add_argument("--steps", type=int, default=50, help="optimiser steps")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate; the first thing to tune")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a step")
    parser.add_argument("--held-out", type=int, default=32, help="rows that are not trained on")
    parser.add_argument("--max-tokens", type=int, default=512, help="longest sequence")
    parser.add_argument("--dtype", default="float32", help="bfloat16 suits GPUs of today")
    parser.add_argument("--seed", type=int, default=42, help="of the draw of rows, of the adapters and of the order")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=args.dtype).to(device)

    with open(args.rows, encoding="utf-8") as lines:
        rows = [encode(json.loads(line), tokenizer, args.max_tokens) for line in lines if line.strip()]
    rows = [row for row in rows if row["labels"][-1] != -100]  # of the others the prompt alone fills the sequence
    random.Random(args.seed).shuffle(rows)
    held_out, train = rows[: args.held_out], rows[args.held_out :]
    collate = DataCollatorForSeq2Seq(tokenizer)

    size = args.batch_size
    probed = train[: PROBE_BATCHES * size]
    batches = [collate(probed[i : i + size]) for i in range(0, len(probed), size)]
    layers = select_layers(probe_layers(model, batches).scores(), budget_percent=args.budget)
    print(f"adapters in layers {layers} of {model.config.num_hidden_layers}")
    model = get_peft_model(model, lora_config(model, layers, rank=16, alpha=32))

    settings = {"max_steps": args.steps, "learning_rate": args.rate, "warmup_steps": args.steps // 10}
    sizes = {"per_device_train_batch_size": size, "per_device_eval_batch_size": size}
    # Gradient checkpointing stays off: with it the backward pass would go on below the lowest adapter.
    settings = TrainingArguments(args.out, **settings, **sizes, save_strategy="no", seed=args.seed)
    trainer = Trainer(model, settings, train_dataset=train, eval_dataset=held_out, data_collator=collate)
    before = trainer.evaluate()["eval_loss"]  # adapters start at zero: the base model's
    trainer.train()
    print(f"held-out loss before {before:.4f}, after {trainer.evaluate()['eval_loss']:.4f} (n = {len(held_out)} rows)")
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
