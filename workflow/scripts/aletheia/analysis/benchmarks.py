"""How tables, analyses and figures name each benchmark."""

TITLES = {"mmlu": "MMLU", "gsm8k": "GSM8K", "humaneval": "HumanEval", "heldout": "held-out loss"}
