"""Greedy generation: the texts of plain ``generate``, with ended rows out of the batch."""

from __future__ import annotations

import pytest
import torch

from aletheia.evaluation.greedy import Greedy, StopStrings
from aletheia.staging.convert import byte_tokenizer
from conftest import FAMILIES, longrope_model, tiny_model

LENGTHS = [3, 9, 6, 1]


def padded(family="llama"):
    """Return a model and left-padded prompts."""
    model, generator = tiny_model(family), torch.Generator().manual_seed(0)
    width = max(LENGTHS)
    ids, mask = torch.zeros(2, len(LENGTHS), width, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        ids[row, width - length :] = torch.randint(1, 90, (length,), generator=generator)
        mask[row, width - length :] = 1
    return model, ids, mask


def never(continuations):
    return [False] * len(continuations)


def generate(model, ids, mask, *, new=12, **settings):
    return model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_length=ids.shape[1] + new,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        use_cache=True,
        **settings,
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_plain_generation(family, rows):
    """All rows at once, or fewer: then a row that ends early makes room for the next."""
    model, ids, mask = padded(family)
    width = ids.shape[1]
    free = generate(model, ids, mask)
    assert torch.equal(generate(model, ids, mask, custom_generate=Greedy(never, slots=rows)), free)
    token = int(free[0, width + 2])
    greedy = Greedy(lambda continuations: [tokens[-1] == token for tokens in continuations], slots=rows)
    ours = generate(model, ids, mask, custom_generate=greedy)
    assert int((ours[0, width:] != 0).sum()) <= 3
    for mine, whole in zip(ours[:, width:].tolist(), free[:, width:].tolist(), strict=True):
        end = whole.index(token) + 1 if token in whole else len(whole)
        # Plain generation leaves an ended row running, and whoever reads it cuts it.
        assert mine == (whole[:end] + [0] * len(whole))[: len(mine)]


@pytest.mark.parametrize("rows", [2, 4])
def test_a_sliding_window_forgets_what_it_should(rows):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model("mistral", **FAMILIES["mistral"], sliding_window=5)
    model, (_, ids, mask) = AutoModelForCausalLM.from_config(config).eval(), padded()
    plain = generate(model, ids, mask)
    lengths = iter([4, 2, 9, 12])
    ends = {}

    def stops(continuations):
        """End each row, known by its first token, at a length of its own."""
        return [len(c) >= ends.setdefault(c[0], next(lengths, 12)) for c in continuations]

    ours = generate(model, ids, mask, custom_generate=Greedy(stops, slots=rows))
    for mine, whole in zip(ours[:, ids.shape[1] :].tolist(), plain[:, ids.shape[1] :].tolist(), strict=True):
        written = sum(token != 0 for token in mine)
        assert mine[:written] == whole[:written]
    assert len(ends) > 1


def test_an_end_token_ends_its_row_alone():
    model, ids, mask = padded()
    end = int(generate(model, ids, mask)[1, ids.shape[1] + 3])
    settings = {"max_length": ids.shape[1] + 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": end}
    plain = model.generate(input_ids=ids, attention_mask=mask, **settings)
    ours = model.generate(input_ids=ids, attention_mask=mask, custom_generate=Greedy(never, slots=2), **settings)
    assert torch.equal(ours, plain)
    assert (plain[1, ids.shape[1] + 4 :] == 0).all()


@pytest.mark.parametrize("rows", [2, 8])
def test_a_penalty_of_the_models_own_counts(rows):
    """Generation settings that a model brings (Qwen's repetition penalty) reach our method, padding apart."""
    model, ids, mask = padded()
    free = generate(model, ids, mask)
    model.generation_config.repetition_penalty = 1.8
    ours = generate(model, ids, mask, custom_generate=Greedy(never, slots=rows))
    for row, length in enumerate(LENGTHS):
        alone = generate(model, ids[row : row + 1, -length:], mask[row : row + 1, -length:])
        assert ours[row, ids.shape[1] :].tolist() == alone[0, length:].tolist()
    assert not torch.equal(ours, free)


def test_rows_are_kept_full(monkeypatch):
    """As many passes as the rows' tokens need: no row waits for another to end."""
    model, ids, mask = padded()
    free, sizes = generate(model, ids, mask), []
    whole = model.forward

    def forward(input_ids, **options):
        sizes.append(tuple(input_ids.shape))
        return whole(input_ids, **options)

    monkeypatch.setattr(model, "forward", forward)
    token = int(free[0, ids.shape[1] + 1])
    greedy = Greedy(lambda continuations: [tokens[-1] == token for tokens in continuations], slots=2)
    ours = generate(model, ids, mask, custom_generate=greedy)
    prompts = [size for size in sizes if size[1] > 1 or size == (1, LENGTHS[-1])][: len(LENGTHS)]
    assert [size[0] for size in prompts] == [1] * len(LENGTHS)
    assert max(rows for rows, _ in sizes) == 2
    # Every written token but each row's last was fed once, besides the prompts: nothing is computed twice.
    written = int((ours[:, ids.shape[1] :] != 0).sum())
    assert sum(rows * tokens for rows, tokens in sizes) == sum(LENGTHS) + written - len(LENGTHS)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "mixtral"])
def test_what_all_prompts_begin_with_is_computed_once(family, monkeypatch):
    """GSM8K's solved examples, say."""
    model, generator = tiny_model(family), torch.Generator().manual_seed(0)
    ids = torch.randint(1, 90, (4, 50), generator=generator)
    ids[:, :40] = ids[:1, :40]
    plain, fed = generate(model, ids, torch.ones_like(ids)), []
    whole = model.forward

    def forward(input_ids, **options):
        fed.append(input_ids.shape[1])
        return whole(input_ids, **options)

    monkeypatch.setattr(model, "forward", forward)
    assert torch.equal(generate(model, ids, torch.ones_like(ids), custom_generate=Greedy(never, slots=3)), plain)
    assert [tokens for tokens in fed if tokens > 1] == [40, 10, 10, 10, 10]


def uncached(model, prompt, new):
    """Return what the likeliest token each time adds to a prompt, every pass over the whole."""
    tokens = list(prompt)
    for _ in range(new):
        tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("common", [0, 36])
def test_a_row_begins_anew_where_it_crosses_a_longrope_window(rows, common):
    """Prompts that end within, at, and beyond the window, with and without a beginning that they share."""
    model, generator, window, new = longrope_model(48), torch.Generator().manual_seed(1), 48, 12
    lengths = [37, 40, 47, 48, 49, 60, 38]
    ids, mask = torch.zeros(2, len(lengths), max(lengths), dtype=torch.long)
    drawn = torch.randint(1, 90, (len(lengths), max(lengths)), generator=generator)
    drawn[:, :common] = drawn[:1, :common]
    for row, length in enumerate(lengths):
        ids[row, -length:], mask[row, -length:] = drawn[row, :length], 1
    ours = generate(model, ids, mask, new=new, custom_generate=Greedy(never, slots=rows))
    with torch.no_grad():
        expected = [uncached(model, drawn[row, :length].tolist(), new) for row, length in enumerate(lengths)]
    assert ours[:, ids.shape[1] :].tolist() == expected
    assert min(lengths) + new > window
    assert len({tuple(tokens) for tokens in expected}) == len(lengths)


def test_nan_is_noted_for_its_row_alone():
    model, ids, mask = padded()
    whole, broken = model.forward, ids[2, -LENGTHS[2] :].tolist()

    def forward(input_ids, **options):
        out = whole(input_ids, **options)
        if input_ids[0].tolist() == broken:
            out.logits[0] = float("nan")
        return out

    model.forward = forward
    greedy = Greedy(never, slots=3)
    generate(model, ids, mask, custom_generate=greedy)
    assert greedy.broken == [False, False, True, False]


def test_time_is_looked_at_before_each_pass():
    model, ids, mask = padded()
    left = iter(range(3))

    def tick():
        if next(left, None) is None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        generate(model, ids, mask, custom_generate=Greedy(never, slots=2, tick=tick))


def test_a_stop_string_is_seen_across_tokens():
    tokenizer = byte_tokenizer()
    texts = ["xx\ndef ", "xx\nde  ", "def \nx ", ""]
    continuations = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert StopStrings(["\ndef", "\nclass"], tokenizer)(continuations) == [True, False, False, False]
