"""Token targets of conversations with tools and of plain texts, and templates that have no place for tools."""

from __future__ import annotations

import json

import pytest

from aletheia.errors import UserError
from aletheia.staging.convert import byte_tokenizer
from aletheia.training.encoding import encode_rows

CALL = {"type": "function", "function": {"name": "add", "arguments": '{"b": 2, "a": 1}'}, "id": "c1"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
TURNS = [
    {"role": "user", "content": "1 + 2?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "3", "name": "add", "tool_call_id": "c1"},
    {"role": "assistant", "content": "It is 3."},
]
ROW = {"messages": TURNS, "tools": json.dumps(TOOLS)}
TOOLS_FIRST = "{% if tools %}{{ 'tools: ' + (tools | tojson) + '\n' }}{% endif %}"
CALLS = (
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments | tojson }}</call>"
)
REST = (
    "{% endfor %}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TURN = "{% for m in messages %}{{ m.role + ': ' + m.content }}"
FOR_TOOLS = TOOLS_FIRST + TURN + CALLS + REST
SAID = '<call>add {"b": 2, "a": 1}</call><eos>'


def tokenizer_with(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def encoded(row, template=FOR_TOOLS, max_tokens=9999, **options):
    """The whole text of a row and the text of its targets."""
    tokenizer = tokenizer_with(template)
    (example,) = encode_rows([row], tokenizer, max_tokens, **options).examples
    targets = [i for i, label in zip(example["input_ids"], example["labels"], strict=True) if label != -100]
    return tokenizer.decode(example["input_ids"]), tokenizer.decode(targets)


def test_only_assistant_turns_are_targets_with_their_calls():
    text, targets = encoded(ROW)
    assert text == (f"tools: {json.dumps(TOOLS)}\nuser: 1 + 2?\nassistant: {SAID}\ntool: 3\nassistant: It is 3.<eos>")
    assert targets == f"{SAID}\nIt is 3.<eos>"


def test_a_turn_that_is_marked_so_is_no_target():
    marked = [TURNS[0], {**TURNS[1], "train": False}, *TURNS[2:]]
    text, targets = encoded({**ROW, "messages": marked})
    assert SAID in text
    assert targets == "It is 3.<eos>"


def test_a_template_that_rewrites_earlier_turns_teaches_the_last_one_where_the_others_are_marked():
    """As that of Phi-3, which ends each text that asks for no answer."""
    rewriting = FOR_TOOLS.replace(
        "{% if add_generation", "{% if not add_generation_prompt %}.{% endif %}{% if add_generation"
    )
    with pytest.raises(
        UserError, match=r"rewrites earlier turns, .*; mark the assistant's turns before the last one with"
    ):
        encoded(ROW, rewriting)
    marked = [TURNS[0], {**TURNS[1], "train": False}, *TURNS[2:]]
    assert encoded({**ROW, "messages": marked}, rewriting)[1] == "It is 3.<eos>\n.<eos>"


def test_a_template_that_joins_arguments_to_a_text_gets_them_as_json():
    joined = FOR_TOOLS.replace("{{ call.function.arguments | tojson }}", "{{ '' + call.function.arguments }}")
    assert encoded(ROW, joined) == encoded(ROW)


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        (FOR_TOOLS.replace(CALLS, "{% for call in [] %}"), "calls of tools"),
        (
            FOR_TOOLS.replace("m.role + ': ' + m.content", "m.role + ': ' + (m.content if m.role != 'tool' else '')"),
            "results",
        ),
        (FOR_TOOLS.removeprefix(TOOLS_FIRST), "descriptions of tools"),
        (FOR_TOOLS.replace("m.content", "('' if m.tool_calls else m.content)"), "texts beside calls of tools"),
        (byte_tokenizer().chat_template, "calls of tools"),
    ],
)
def test_a_template_without_a_place_for_tools_is_one_sentence(template, lost):
    with pytest.raises(UserError, match=rf"^rows, number 1 .row 8 of its file.: .* has no place for {lost}") as raised:
        encoded(
            {**ROW, "messages": [TURNS[0], {**TURNS[1], "content": "Let me add."}, *TURNS[2:]], "source_row": 7},
            template,
        )
    assert "\n" not in str(raised.value)
    plain = {"messages": [TURNS[0], TURNS[3]]}
    assert encoded(plain, template)[1] == "It is 3.<eos>"


def test_a_template_that_refuses_the_turns_of_tools_is_one_sentence():
    refusing = (
        "{% for m in messages if m.role == 'tool' %}{{ raise_exception('Only user and assistant.') }}{% endfor %}"
    )
    with pytest.raises(
        UserError, match=r"refuses its turns \(user, assistant, tool, .*\): Only user and assistant\.; cha"
    ):
        encoded(ROW, refusing + FOR_TOOLS)
    with pytest.raises(UserError, match=r"refuses its turns \(user, assistant, tool, assistant\): .*NoneType"):
        encoded(ROW, "{{ none + messages[0].content }}" + FOR_TOOLS)
    with pytest.raises(
        UserError, match=r"refuses its turns .*: 'str' object has no attribute 'items'; change or remove"
    ):
        encoded(ROW, "{{ messages[0].content | dictsort }}" + FOR_TOOLS)


def test_the_text_of_a_special_token_in_a_call_or_a_description_is_found():
    special = [
        {
            **ROW,
            "messages": [
                TURNS[0],
                {**TURNS[1], "tool_calls": [{**CALL, "function": {"name": "f", "arguments": said}}]},
            ],
        }
        for said in ('{"a": "<eos>"}', '{"a": 1}')
    ]
    assert encode_rows(special, tokenizer_with(FOR_TOOLS), 9999).counts()["special"] == 1


@pytest.mark.parametrize("prompt", ["alpaca", "plain", "chat", "text"])
@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_of_a_text_each_token_and_the_end_are_targets(prompt, loss_on):
    text, targets = encoded({"text": "Once upon\na time."}, prompt=prompt, loss_on=loss_on)
    assert text == targets == "Once upon\na time.<eos>"


def test_a_long_text_is_cut_and_counted():
    rows = encode_rows([{"text": "x" * 50}, {"text": "y"}], byte_tokenizer(), 20)
    assert [len(example["input_ids"]) for example in rows.examples] == [20, 2]
    assert rows.counts() == {"rows": 2, "cut": 1, "no_target_left": 0, "empty": 0, "special": 0}
