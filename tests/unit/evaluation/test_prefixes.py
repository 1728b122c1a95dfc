"""Shared prefixes: which sequences share one, what that spares, and that no number moves."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from aletheia.evaluation.prefix_cache import (
    PrefixGroup,
    ScoredSequence,
    common_prefix_length,
    group_by_prefix,
    last_logits,
    tokens_computed,
)
from conftest import FAMILIES, longrope_model, tiny_model


def subjects(*sizes, prefix=100, seed=0):
    """Return sequences of subjects: a prefix of its own each, then questions of other lengths."""
    generator = random.Random(seed)
    tails = []
    for size in sizes:
        head = generator.choices(range(90), k=prefix)
        rests = [generator.choices(range(90), k=generator.randint(3, 12)) for _ in range(size)]
        tails += [ScoredSequence(head + rest, 1) for rest in rests]
    generator.shuffle(tails)
    return tails


def best(joints):
    """Return the most tokens that any division into stretches of neighbours spares (the slow twin)."""
    most = 0
    for cuts in itertools.product([False, True], repeat=len(joints)):
        spared, run = 0, []
        for cut, joint in zip([*cuts, True], [*joints, 0], strict=True):
            if cut:
                spared += min(run, default=0) * len(run)
                run = []
            else:
                run.append(joint)
        most = max(most, spared)
    return most


def test_each_subject_is_a_group_and_the_rest_comes_last():
    tails = subjects(5, 3, 1)
    made = group_by_prefix(tails)
    assert sorted(len(group.members) for group in made) == [1, 3, 5]
    assert [group.prefix >= 100 for group in made] == [True, True, False]
    assert sorted(i for group in made for i in group.members) == list(range(9))
    for group in made:
        heads = {tuple(tails[i].tokens[: group.prefix]) for i in group.members}
        assert len(heads) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_groups_spare_as_much_as_any(seed):
    """Against every division of the sorted sequences; nested prefixes too."""
    generator = random.Random(seed)
    tails = [ScoredSequence([generator.randint(0, 1) for _ in range(12)], 1) for _ in range(9)]
    ordered = sorted(tail.tokens for tail in tails)
    joints = [min(common_prefix_length(a, b), 11) for a, b in itertools.pairwise(ordered)]
    spared = sum(group.prefix * (len(group.members) - 1) for group in group_by_prefix(tails, min_prefix=0))
    # A stretch of short prefixes beside one of long ones may spare a few tokens more.
    assert 0.8 * best(joints) <= spared <= best(joints)


def test_a_prefix_leaves_the_wanted_positions_out():
    same = [7] * 100
    for keep in (1, 4):
        (group,) = group_by_prefix([ScoredSequence(same, keep), ScoredSequence(same, 1), ScoredSequence([*same, 8], 1)])
        assert group.prefix == 100 - keep


def test_what_is_not_worth_a_pass_is_not_shared():
    members = group_by_prefix(subjects(4, prefix=10))[0].members
    assert group_by_prefix(subjects(4, prefix=10)) == [PrefixGroup(0, members)]
    assert group_by_prefix([]) == []


def test_tokens_are_counted_with_their_padding():
    tails = [ScoredSequence([1] * 10, 1), ScoredSequence([2] * 7, 1), ScoredSequence([3] * 4, 1)]
    assert tokens_computed(tails, [PrefixGroup(0, [0, 1, 2])], batch_size=2) == 2 * 10 + 4
    assert tokens_computed(tails, [PrefixGroup(3, [0, 1, 2])], batch_size=3) == 3 + 3 * 7


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_each_sequence_alone(family):
    """Every family, with and without shared prefixes, at several batch sizes; GPT-J's context is 64."""
    model, questions = tiny_model(family), subjects(4, 3, 1, prefix=45)
    tails = [ScoredSequence(question.tokens, 1 + i % 3) for i, question in enumerate(questions)]
    assert sum(group.prefix > 0 for group in group_by_prefix(tails)) == 2
    with torch.no_grad():
        alone = [model(torch.tensor([tail.tokens])).logits[0, -tail.keep :] for tail in tails]
        for reuse, batch_size in ((True, 1), (True, 3), (False, 8)):
            rows = last_logits(model, tails, batch_size=batch_size, device=model.device, reuse=reuse)
            found = dict(rows)
            assert sorted(found) == list(range(8))
            for which, expected in enumerate(alone):
                assert torch.allclose(found[which], expected, atol=2e-5), (reuse, batch_size, which)


def test_a_prefix_is_computed_once():
    model, tails, seen = tiny_model(), subjects(6, prefix=45), []

    def forward(input_ids, **options):
        seen.append(input_ids.numel())
        return model(input_ids, **options)

    with torch.no_grad():
        list(last_logits(forward, tails, batch_size=2, device=model.device))
    assert len(seen) == 1 + 3
    assert sum(seen) == tokens_computed(tails, group_by_prefix(tails), 2) < sum(len(tail.tokens) for tail in tails) / 2


def test_a_sliding_window_forgets_what_it_should():
    """A window shorter than the prefix: its cache keeps only the last keys."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model("mistral", **FAMILIES["mistral"], sliding_window=8)
    model, tails = AutoModelForCausalLM.from_config(config).eval(), subjects(4, prefix=45)
    with torch.no_grad():
        found = dict(last_logits(model, tails, batch_size=4, device=model.device))
        for which, tail in enumerate(tails):
            expected = model(torch.tensor([tail.tokens]), use_cache=False).logits[0, -1:]
            assert torch.allclose(found[which], expected, atol=2e-5)


@pytest.mark.parametrize("window", [20, 45, 50, 53, 80])
def test_no_prefix_and_no_pass_reaches_across_a_longrope_window(window):
    """Sequences of 48 to 57 tokens that begin with the same 45: all beyond the window, on both sides, all within."""
    model, tails = longrope_model(window), subjects(5, 4, prefix=45)
    within = [len(tail.tokens) <= window for tail in tails]
    assert (any(within), all(within)) == {20: (False, False), 45: (False, False), 80: (True, True)}.get(
        window, (True, False)
    )
    with torch.no_grad():
        for reuse, batch_size in ((True, 2), (True, 9), (False, 9)):
            found = dict(
                last_logits(model, tails, batch_size=batch_size, device=model.device, window=window, reuse=reuse)
            )
            for which, tail in enumerate(tails):
                expected = model(torch.tensor([tail.tokens]), use_cache=False).logits[0, -1:]
                assert torch.allclose(found[which], expected, atol=1e-4), (reuse, batch_size, which)
