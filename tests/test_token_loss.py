"""The one implementation of the loss, against the plain formula written out."""

import math

import pytest
import torch

from aletheia.method.token_loss import IGNORE, cross_entropy, head_at, predicted
from conftest import FAMILIES, random_batch, tiny_model


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


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_plain_formula_at_each_target(family):
    model, batch = tiny_model(family), scattered()
    positions, targets = predicted(batch["labels"])
    with torch.no_grad(), head_at(model, positions):
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    assert logits.shape == (len(targets), 96)
    expected = plain_losses(model, batch)
    assert [divmod(position, 11) for position in positions.tolist()] == [(row, t) for row, t, _ in expected]
    losses = [loss for *_, loss in expected]
    assert cross_entropy(logits, targets).tolist() == pytest.approx(losses, rel=1e-5)
    assert float(cross_entropy(logits, targets, reduction="sum")) == pytest.approx(math.fsum(losses), rel=1e-5)


def test_the_head_is_whole_again_after_an_error():
    model, batch = tiny_model(), scattered()
    with pytest.raises(RuntimeError, match="halfway"), head_at(model, predicted(batch["labels"])[0]):
        raise RuntimeError("halfway")
    assert model(input_ids=batch["input_ids"]).logits.shape == (3, 11, 96)


def test_rows_without_a_target_predict_nothing():
    labels = torch.tensor([[7, IGNORE, IGNORE], [IGNORE, IGNORE, 4]])
    positions, targets = predicted(labels)
    assert (positions.tolist(), targets.tolist()) == ([4], [4])
