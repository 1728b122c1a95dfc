"""Every choice of as many layers, trained: how far each way to choose falls short of the best one.

    tests/support/oracles.py        writes benchmarks/oracles.json: minutes on one core

Two models are small enough: glasslm (4 layers, 2 of them adapted: 6 choices), on docstrings of the standard library,
and one that is made here (8 layers, 4 adapted: 70 choices), trained on one random process and then adapted to
another. The regret of a choice is its held-out loss minus that of the best choice of the same seed, in nats; that of
a random draw is the mean over all choices.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from aletheia.method.adapters import attach, placement_plan  # noqa: E402
from aletheia.method.layers import adaptable_layers  # noqa: E402
from aletheia.method.probe import probe_layers  # noqa: E402
from aletheia.method.probe_record import probe_payload  # noqa: E402
from aletheia.method.selection import choose_layers  # noqa: E402
from aletheia.method.token_batch import TokenBatch  # noqa: E402
from aletheia.method.token_loss import token_losses  # noqa: E402
from aletheia.study.schema import section_defaults  # noqa: E402
from aletheia.study.selectors import PROBED  # noqa: E402
from aletheia.timing.interleaving import copy_sharing_weights  # noqa: E402
from aletheia.training.loop import Loop  # noqa: E402

SEEDS = (1, 2, 3)
CHOICES: dict[str, dict[str, Any]] = {
    "gradient": {"layers": "gradient"},
    "gradient_sum": {"layers": "gradient", "score": "sum_of_norms"},
    "gradient_relative": {"layers": "gradient", "score": "relative"},
    "gradient_weight": {"layers": "gradient", "score": "gradient_times_weight"},
    **{name: {"layers": name} for name in ("fisher", "block_influence", "activation_norm", "weight_snr")},
    **{name: {"layers": name} for name in ("bottom", "first", "last", "every_other")},
}
Choice = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One model and its data.

    Attributes
    ----------
    model
        Without adapters; it is left as it is.
    batches
        Micro-batches in order, one an optimiser step.
    heldout
        Batches on which a choice is judged.
    probed
        Batches of the probe.
    rate
        Peak learning rate.
    """

    model: Any
    batches: Sequence[TokenBatch]
    heldout: Sequence[TokenBatch]
    probed: Sequence[TokenBatch]
    rate: float

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.model.config.num_hidden_layers


def loss_of(task: Task, layers: Iterable[int], *, seed: int) -> float:
    """Return the held-out loss after adapters of rank 4 in some layers were trained over all batches."""
    model = copy_sharing_weights(task.model)
    plan = placement_plan(adaptable_layers(model), list(layers), rank=4, alpha=8)
    adapted = attach(model, plan, dropout=0.0, seed=seed)
    steps = len(task.batches)
    settings = {**section_defaults("training"), "accumulation": 1, "warmup_steps": max(1, steps // 10)}
    loop = Loop(adapted, task.batches, settings=settings, steps=steps, learning_rate=task.rate, dtype="fp32", seed=seed)
    while loop.done < steps:
        loop.step()
    adapted.eval()
    with torch.no_grad():
        losses = torch.cat([token_losses(adapted, batch) for batch in task.heldout])
    return float(losses.mean())


def chosen(task: Task, *, seed: int) -> dict[str, Choice]:
    """Return half of the layers by each way to choose that a probe or a place decides."""
    measured = probe_layers(task.model, task.probed, measure=PROBED)
    scores = probe_payload(measured, task.model, dtype="fp32")["scores"]

    def of(arm: Mapping[str, Any]) -> Choice:
        by = arm["layers"] if arm["layers"] in scores else arm.get("score", "l2")
        return tuple(choose_layers(task.depth, {"budget_percent": 50, **arm}, seed=seed, scores=scores[by]))

    return {name: of(arm) for name, arm in CHOICES.items()}


def regrets(task: Task, *, seed: int) -> dict[str, Any]:
    """Train every choice of half of the layers; return their losses and what each way to choose misses of the best."""
    size = task.depth // 2
    losses = {layers: loss_of(task, layers, seed=seed) for layers in itertools.combinations(range(task.depth), size)}
    best = min(losses, key=losses.__getitem__)
    values = np.array(list(losses.values()))
    ways = {
        name: {
            "layers": list(layers),
            "regret": losses[layers] - losses[best],
            "rank": int((values < losses[layers]).sum()) + 1,
        }
        for name, layers in chosen(task, seed=seed).items()
    }
    return {
        "seed": seed,
        "choices": len(losses),
        "best": list(best),
        "best_loss": losses[best],
        "worst_regret": float(values.max() - losses[best]),
        "random_regret": float(values.mean() - losses[best]),
        "ways": ways,
        "losses": {" ".join(map(str, layers)): loss for layers, loss in losses.items()},
    }


def random_process(rng: np.random.Generator, *, tokens: int, peaked: float) -> np.ndarray:
    """Return transition probabilities ``[tokens, tokens, tokens]`` of a second-order Markov chain."""
    return rng.dirichlet(np.full(tokens, peaked), size=(tokens, tokens))


def sequences(rng: np.random.Generator, process: np.ndarray, *, rows: int, length: int) -> torch.Tensor:
    """Return rows of a process, int64 ``[rows, length]``."""
    tokens = len(process)
    ids = rng.integers(tokens, size=(rows, length))
    cumulative = process.cumsum(axis=2)
    for place in range(2, length):
        drawn = rng.random(rows)[:, None]
        ids[:, place] = (drawn > cumulative[ids[:, place - 2], ids[:, place - 1]]).sum(axis=1).clip(max=tokens - 1)
    return torch.from_numpy(ids)


def batches_of(ids: torch.Tensor, size: int) -> list[TokenBatch]:
    """Return batches in which every token but the first is a target."""
    return [
        TokenBatch.from_labels(input_ids=part, attention_mask=torch.ones_like(part), labels=part.clone())
        for part in ids.split(size)
    ]


def made_task(*, seed: int, layers: int = 8, pretraining_steps: int = 250, steps: int = 30) -> Task:
    """Return a small Llama that was trained on one process, with data of another one that is half the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rng, tokens = np.random.default_rng(seed), 16
    first, second = (random_process(rng, tokens=tokens, peaked=0.05) for _ in range(2))
    # Half of the contexts keep their continuation, so that the adapters have something to keep.
    kept = rng.random((tokens, tokens)) < 0.5
    other = np.where(kept[:, :, None], first, second)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for batch in batches_of(sequences(rng, first, rows=16 * pretraining_steps, length=24), 16):
        optimizer.zero_grad()
        token_losses(model, batch, reduction="mean").backward()
        optimizer.step()
    new = batches_of(sequences(rng, other, rows=8 * steps, length=24), 8)
    return Task(model.eval(), new, batches_of(sequences(rng, other, rows=256, length=24), 128), new[:5], 1e-2)


def glass_task(folder: Path, *, seed: int, steps: int = 60) -> Task:
    """Return glasslm, staged into a folder, with docstrings of the standard library, without the code they are of."""
    from aletheia.method.loading import load
    from aletheia.seeded_order import seeded_order
    from aletheia.staging.docstrings import docstring_rows
    from aletheia.training.encoding import collate, encode_rows, probe_batches

    lock = folder / "resources" / "models" / "glasslm.lock.json"
    if not lock.is_file():
        stage = [sys.executable, "-s", str(ROOT / "workflow/scripts/stage.py"), "model", "glasslm", "--out", str(lock)]
        entry = json.dumps(_registry()["glasslm"])
        subprocess.run([*stage, "--lineage", f"config:model={entry}"], cwd=folder, check=True)
    model, tokenizer = load(lock, dtype="fp32")
    rows = seeded_order(docstring_rows(), seed=f"{seed}:oracle")[: 4 * steps + 320]
    encoded = list(encode_rows(rows, tokenizer, 96, prompt="text").examples)
    train, heldout = encoded[:-256], encoded[-256:]
    pad = tokenizer.pad_token_id

    def grouped(examples: Sequence[Any], size: int) -> list[TokenBatch]:
        return [collate(examples[start : start + size], pad) for start in range(0, len(examples), size)]

    probed = probe_batches(train, pad, batches=5, seed=seed)
    return Task(model, grouped(train[: 4 * steps], 4), grouped(heldout, 32), probed, 5e-3)


def _registry() -> dict[str, Any]:
    from aletheia.study.registries import read_models

    return read_models(ROOT / "config" / "models.yaml")


def main() -> None:
    """Measure both models at every seed; write the file."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        glass = [regrets(glass_task(Path(folder), seed=seed), seed=seed) for seed in SEEDS]
    found = {"glasslm": glass, "made": [regrets(made_task(seed=seed), seed=seed) for seed in SEEDS]}
    result = {"what": __doc__.splitlines()[0], "unit": "nats", "models": found}
    path = ROOT / "benchmarks" / "oracles.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, seeds in found.items():
        print(name, [each["best"] for each in seeds], [round(each["random_regret"], 4) for each in seeds])
        for way in CHOICES:
            print(f"  {way:20}", [(round(e["ways"][way]["regret"], 4), e["ways"][way]["rank"]) for e in seeds])


if __name__ == "__main__":
    main()
