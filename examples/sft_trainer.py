"""Adapters where the gradient says, trained by TRL's SFTTrainer: a script to copy from.

Rows are JSONL with ``instruction``, ``output`` and perhaps ``input``; TRL tokenises them, and learns the output alone.
"""

import argparse

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq
from trl import SFTConfig, SFTTrainer

from aletheia import lora_config, probe_layers, select_layers

PROBE_BATCHES = 5  # as in the paper


def example(row):
    """Return a row as TRL takes it."""
    prompt = "\n\n".join(row[key] for key in ("instruction", "input") if row.get(key)) + "\n\n"
    return {"prompt": prompt, "completion": row["output"]}


def probe_batches(rows, tokenizer, size, max_tokens):
    """Return the first rows as batches, tokenised as TRL does it, with labels that leave the prompts out."""
    encoded = []
    for row in rows.select(range(min(len(rows), PROBE_BATCHES * size))):
        asked = len(tokenizer(row["prompt"])["input_ids"])
        ids = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"][:max_tokens]
        encoded.append({"input_ids": ids, "labels": [-100] * min(asked, len(ids)) + ids[asked:]})
    collate = DataCollatorForSeq2Seq(tokenizer)
    return [collate(encoded[i : i + size]) for i in range(0, len(encoded), size)]


def main():
    """Probe, select, and leave attaching, training and saving to TRL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("model", help="folder of a model, or its id on the hub")
    parser.add_argument("rows", help="JSONL with instruction, input (optional) and output")
    parser.add_argument("--out", default="adapter", help="where the adapter goes")
    parser.add_argument("--steps", type=int, default=50, help="optimiser steps")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate; the first thing to tune")
    args = parser.parse_args()

    gpu = torch.cuda.is_available()
    settings = SFTConfig(
        args.out,
        max_steps=args.steps,
        learning_rate=args.rate,
        warmup_steps=args.steps // 10,
        max_length=512,
        save_strategy="no",
        seed=42,
        bf16=gpu,  # TRL's default asks for it on a CPU too
        gradient_checkpointing=False,  # TRL's default sends the backward pass on below the lowest adapter
    )
    torch.manual_seed(settings.seed)  # of the adapters, which TRL attaches before it sets its seed
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="float32").to("cuda" if gpu else "cpu")
    rows = load_dataset("json", data_files=args.rows, split="train")
    rows = rows.map(example, remove_columns=rows.column_names).train_test_split(test_size=0.1, seed=settings.seed)

    batches = probe_batches(rows["train"], tokenizer, settings.per_device_train_batch_size, settings.max_length)
    layers = select_layers(probe_layers(model, batches).scores(), budget_percent=50)
    print(f"adapters in layers {layers} of {model.config.num_hidden_layers}")
    adapter = lora_config(model, layers, rank=16, alpha=32)

    data = {"train_dataset": rows["train"], "eval_dataset": rows["test"]}
    trainer = SFTTrainer(model, settings, **data, processing_class=tokenizer, peft_config=adapter)
    before = trainer.evaluate()["eval_loss"]  # adapters start at zero: the base model's
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    print(f"held-out loss before {before:.4f}, after {after:.4f} (n = {len(trainer.eval_dataset)} rows)")
    trainer.save_model()


if __name__ == "__main__":
    main()
