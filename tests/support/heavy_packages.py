"""Packages whose import takes long, so that no help waits for them."""

HEAVY = {
    *("bitsandbytes", "datasets", "lm_eval", "matplotlib", "numpy", "pandas", "peft", "pyarrow", "rich", "rocrate"),
    *("scipy", "seaborn", "statsmodels", "tokenizers", "torch", "transformers"),
}
