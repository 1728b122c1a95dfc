"""The one implementation of the loss, against the plain formula written out."""

import math

import pytest
import torch

from aletheia.method.probe_pass import join_batches
from aletheia.method.token_batch import TokenBatch
from aletheia.method.token_loss import IGNORE, find_targets, head_at, token_losses
from conftest import random_batch, tiny_model


def plain_losses(model, batch):
    """Return (row, token position, −log p) of each target: the formula, one token at a time, over all logits."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    found = []
    for row, labels in enumerate(batch["labels"].tolist()):
        for t, label in enumerate(labels[1:]):
            if label != IGNORE:
                probability = logits[row, t].exp() / logits[row, t].exp().sum()
                found.append((row, t, -math.log(probability[label])))
    return found


def scattered(sequences=3, tokens=11):
    """Return a padded batch whose targets lie apart; of its first tokens one is a label, which nothing predicts."""
    batch = random_batch(sequences, tokens, 5, padding=3)
    batch["labels"][:, 1:4] = IGNORE
    batch["labels"][1, 5] = IGNORE
    return batch


@pytest.mark.parametrize("family", ["llama", "gptj", "mixtral"])
def test_the_loss_is_the_plain_formula_at_each_target(family):
    model, batch = tiny_model(family), TokenBatch.from_labels(**scattered())
    expected = plain_losses(model, scattered())
    assert [divmod(position, 11) for position in batch.positions.tolist()] == [(row, t) for row, t, _ in expected]
    losses = [loss for *_, loss in expected]
    for own in (batch, batch.without_mask()):
        with torch.no_grad():
            each, total = token_losses(model, own), token_losses(model, own, reduction="sum")
        assert each.tolist() == pytest.approx(losses, rel=1e-5)
        assert float(total) == pytest.approx(math.fsum(losses), rel=1e-5)


def test_the_head_is_whole_again_after_an_error():
    model, batch = tiny_model(), scattered()
    with pytest.raises(RuntimeError, match="halfway"), head_at(model, find_targets(batch["labels"])[0]):
        raise RuntimeError("halfway")
    assert model(input_ids=batch["input_ids"]).logits.shape == (3, 11, 96)


def test_rows_without_a_target_predict_nothing():
    labels = torch.tensor([[7, IGNORE, IGNORE], [IGNORE, IGNORE, 4]])
    positions, targets = find_targets(labels)
    assert (positions.tolist(), targets.tolist()) == ([4], [4])


def test_a_batch_gives_its_labels_back_for_a_models_own_loss():
    plain = scattered()
    batch = TokenBatch.from_labels(**plain)
    expected = plain["labels"].clone()
    expected[:, 0] = IGNORE  # nothing predicts a first token
    assert torch.equal(batch.labels(), expected)
    assert batch.tokens == 3 * 8
    assert batch.targets_by_sequence().tolist() == (expected != IGNORE).sum(dim=1).tolist()
    assert batch.to("meta").inputs().keys() == {"input_ids", "attention_mask"}
    assert {t.device.type for t in batch.to("meta").inputs().values()} == {"meta"}


def test_joined_batches_are_one_padded_batch():
    """Of unequal lengths, one without a mask: as if their dicts had been padded and stacked."""
    short, long = random_batch(2, 5, 1, padding=1), random_batch(2, 8, 2)
    short["labels"][0, :3] = IGNORE
    fillers = {"input_ids": 0, "attention_mask": 0, "labels": IGNORE}
    stacked = {
        key: torch.cat([torch.nn.functional.pad(short[key], (0, 3), value=filler), long[key]])
        for key, filler in fillers.items()
    }
    expected = TokenBatch.from_labels(**stacked)
    del long["attention_mask"]
    found = join_batches([TokenBatch.from_labels(**batch) for batch in (short, long)])
    for name in ("input_ids", "attention_mask", "positions", "targets"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
