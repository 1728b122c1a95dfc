"""The card of an adapter as the hub reads it."""

import pytest
from huggingface_hub import ModelCard

from aletheia.training.model_card import model_card
from ledgers import sealed

HUB = {"type": "hub", "id": "them/tiny"}
LOCAL = {"type": "local", "path": "/home/me/mine"}
COUNTS = {"rows": 8, "cut": 0, "no_target_left": 1, "empty": 0, "special": 0}
FACTS = {
    **{"model": "mine", "arm": "ale", "seed": 7, "step": 3, "tokens": 900, "dtype": "bf16", "quantization": None},
    **{"learning_rate": 1e-3, "trainable_parameters": 2048, "eval_loss": 1.23456, "row_counts": {"heldout": COUNTS}},
    "placement": {
        "layers": [1, 2],
        "layers_total": 3,
        "modules": {"model.layers.1.mlp.up_proj": {"rank": 4, "alpha": 8}},
    },
}
SETTINGS = {"batch_size": 2, "accumulation": 1, "schedule": "cosine"}


def card_of(folder, *, model=HUB, data=HUB, licence="Apache-2.0"):
    """Return the card of a run, read from a file as the hub's library reads it."""
    entry = {"sha256": "2" * 64, "bytes": 1}
    facts = {"revision": "c0ffee" if model is HUB else None, "parameters": 1, "layers": 3, "family": "llama"}
    locks = {
        "model_lock": {"model": "mine", "source": model, "files": {"model.safetensors": entry}, **facts},
        "data_lock": {"data": "rows", "source": data, "revision": None, "format": "rows"},
    }
    locks["model_lock"]["licence"] = licence
    locks["data_lock"] |= {"files": {"train.jsonl": {**entry, "rows": 40}}, "licence": None}
    paths = {kind: sealed(folder / f"{kind}.json", kind, payload) for kind, payload in locks.items()}
    text = model_card(
        FACTS, [2.0, 1.9, 1.8], **paths, max_tokens=64, settings=SETTINGS, lineage={"code": {}, "inputs": {}}
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return ModelCard.load(folder / "README.md")


def test_the_hub_reads_base_model_data_licence_and_the_measured_loss(tmp_path):
    card = card_of(tmp_path)
    assert (card.data.base_model, card.data.datasets, card.data.license) == ("them/tiny", ["them/tiny"], "apache-2.0")
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-generation")
    assert card.data.to_dict()["base_model_relation"] == "adapter"
    (result,) = card.data.eval_results
    assert (card.data.model_name, result.metric_type, result.metric_value) == ("mine-ale-seed7", "loss", 1.2346)
    assert result.metric_name == "cross-entropy, nats a token, 7 rows at the end of training"
    # Written again by that library, it says the same.
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()


def test_what_only_this_machine_knows_is_not_in_the_metadata(tmp_path):
    card = card_of(tmp_path, model=LOCAL, data=LOCAL, licence=None)
    assert {"base_model", "datasets", "license"} & set(card.data.to_dict()) == set()
    assert card.data.eval_results[0].dataset_type == "rows"
    assert "/home/me" not in card.content


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        ("MIT", ("mit", None)),
        ("CC-BY-NC-4.0", ("cc-by-nc-4.0", None)),
        ("Llama 3.1 Community", ("other", "Llama 3.1 Community")),
        ("other (Stability AI)", ("other", "other (Stability AI)")),
    ],
)
def test_a_licence_has_the_hubs_name_or_its_own(tmp_path, licence, found):
    data = card_of(tmp_path, licence=licence).data.to_dict()
    assert (data["license"], data.get("license_name")) == found
