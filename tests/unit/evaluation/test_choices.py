"""Choices are scored by the log-likelihood of their text, whatever the tokenizer makes of " A".

The paper's Llama-3.1-70B scored 22.7 % on MMLU, below chance, since its choices were mapped to wrong token ids (section
A.1). That mapping is reproduced here, on a model that knows every answer.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutputWithPast

from aletheia.evaluation import evaluate
from aletheia.evaluation.harness import StudyLM
from aletheia.evaluation.harness_tasks import task_config
from conftest import tiny_model
from evaluations import CONFIG, data_lock

# 22 questions, five of whose answers are A: whoever always says A is right in 22.7 % of them.
ANSWERS = [0] * 5 + [1, 2, 3] * 5 + [1, 2]
QUESTIONS = [
    {"id": f"q/{i}", "question": f"Question {i}?", "choices": list("abcd"), "answer": answer, "subject": None}
    for i, answer in enumerate(ANSWERS)
]


def tokenizer(merges=(), *, bos):
    """Return a byte-level tokenizer whose only words are ``merges``, with or without a BOS token of its own."""
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    if bos:
        made.post_processor = processors.TemplateProcessing("<s> $0", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


WHOLE = [("Ġ", letter) for letter in "ABCD"]
# ":" and " A" become one token, so that a choice melts into the last token of its prompt.
MELTED = [*WHOLE, *((":", f"Ġ{letter}") for letter in "ABCD")]
TOKENIZERS = {
    "whole": tokenizer(WHOLE, bos=False),
    "whole, BOS": tokenizer(WHOLE, bos=True),
    "split": tokenizer(bos=False),
    "split, BOS": tokenizer(bos=True),
    "melted": tokenizer(MELTED, bos=False),
    "melted, BOS": tokenizer(MELTED, bos=True),
}


class Knowing(LlamaForCausalLM):
    """A model that holds the next token of every text it was told for the likeliest."""

    def tell(self, texts):
        self.following = {tuple(ids[:k]): ids[k] for ids in texts for k in range(1, len(ids))}

    def forward(self, input_ids, past_key_values=None, use_cache=None, logits_to_keep=0, **_):
        known = input_ids
        if past_key_values is not None and past_key_values.get_seq_length():
            states = past_key_values.layers[0].keys[:, 0, :, 0].long()
            known = torch.cat([states, input_ids], dim=1)
        elif use_cache:
            past_key_values = SimpleCache()
        if use_cache:
            past_key_values.add(known)
        logits = torch.zeros(*input_ids.shape, self.config.vocab_size)
        offset = known.shape[1] - input_ids.shape[1]
        for row, ids in enumerate(known.tolist()):
            for at in range(input_ids.shape[1]):
                following = self.following.get(tuple(ids[: offset + at + 1]))
                if following is not None:
                    logits[row, at, following] = 9.0
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(logits=logits[:, keep], past_key_values=past_key_values)


class SimpleCache:
    """Keeps the tokens themselves, in the place of keys."""

    def __init__(self):
        self.layers = []

    def add(self, known):
        self.layers = [SimpleNamespace(keys=known[:, None, :, None].float())]

    def get_seq_length(self):
        return self.layers[0].keys.shape[2] if self.layers else 0

    def batch_repeat_interleave(self, repeats):
        self.layers[0].keys = self.layers[0].keys.repeat_interleave(repeats, dim=0)


@pytest.fixture(params=TOKENIZERS)
def told(request, tmp_path):
    """Return a tokenizer, a model that knows the 22 answers, the prompts, and the questions' lock."""
    lock = data_lock(tmp_path, "mmlu", questions=QUESTIONS)
    lm = StudyLM(tiny_model(), TOKENIZERS[request.param], batch_size=4)
    texts = prompts(tmp_path)
    whole = [f"{text} {'ABCD'[answer]}" for text, answer in zip(texts, ANSWERS, strict=True)]
    config = tiny_model().config
    config.vocab_size = len(lm.tokenizer)
    model = Knowing(config).eval()
    model.tell([lm.tok_encode(text) for text in whole])
    return SimpleNamespace(name=request.param, tokenizer=lm.tokenizer, model=model, texts=texts, lock=lock)


def prompts(folder):
    from lm_eval.api.task import ConfigurableTask

    task = ConfigurableTask(config=task_config("mmlu", folder / "mmlu" / "questions.jsonl"))
    return [task.fewshot_context(doc, 0) for doc in task.test_docs()]


def share(picked):
    return sum(a == b for a, b in zip(picked, ANSWERS, strict=True)) / len(ANSWERS)


def test_choices_are_found_under_every_tokenizer(told):
    loaded = evaluate.LoadedModel(told.model, told.tokenizer, 4)
    outcome = evaluate.evaluate(loaded, "mmlu", told.lock, config=json.loads(json.dumps(CONFIG)))
    assert (outcome.status, outcome.score, outcome.n) == ("ok", 1.0, 22)
    assert {row["status"] for row in outcome.rows} == {"ok"}


@pytest.mark.parametrize("choice", ["A", " A"])
def test_the_wrong_mapping_scores_below_chance(told, choice):
    """The first token id of each choice by itself: BOS, or the space, is the same id four times, and the first wins."""
    ids = [told.tokenizer.encode(choice.replace("A", letter))[0] for letter in "ABCD"]
    picked = []
    for text in told.texts:
        last = told.model(torch.tensor([told.tokenizer.encode(text)])).logits[0, -1]
        picked.append(int(torch.stack([last[i] for i in ids]).argmax()))
    if len(set(ids)) == 1:
        assert "BOS" in told.name or (told.name == "split" and choice == " A")
        assert picked == [0] * 22
        assert share(picked) == pytest.approx(0.227, abs=5e-4)
    else:
        # It works by luck only: where the id is the very token that the text goes on with.
        assert (share(picked) == 1.0) is (told.name == "whole" and choice == " A")
