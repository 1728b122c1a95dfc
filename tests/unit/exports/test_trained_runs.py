"""Runs that the steps have trained: exported and trained again by TRL, merged, asked."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from aletheia.errors import UserError
from aletheia.exports import merge as merging
from aletheia.exports.chat import conversation
from aletheia.exports.choice import read_choice
from aletheia.exports.formats import exported
from aletheia.exports.found_runs import find_run
from aletheia.exports.merge import merge
from aletheia.exports.used_adapter import load_base, used_adapter, with_adapter
from console_script import aletheia
from trained_runs import ARMS, trained_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a study with a run of two arms; only read it."""
    return trained_study(tmp_path_factory.mktemp("exports") / "study", ARMS)


def test_a_choice_is_what_the_run_says(trained):
    choice = read_choice(find_run(trained, arm="mixed"))
    assert {name.split(".")[2] for name in choice.modules} == {"0", "2"}
    assert {(name.rpartition(".")[2], entry["rank"]) for name, entry in choice.modules.items()} == {
        *(("v_proj", 2), ("down_proj", 4))
    }
    assert (choice.method, choice.layers_total, choice.learning_rate, choice.steps) == ("listed", 4, 0.02, 2)
    assert (choice.prompt, choice.max_tokens, choice.dtype, choice.chat) == ("alpaca", 256, "fp32", False)
    assert list(choice.sources) == ["results/train/tiny/mixed/seed1/run.json", "results/select/tiny/mixed/seed1.json"]
    assert choice.base == str(trained / "resources/models/tiny")
    assert choice.rows.is_file()


@pytest.mark.parametrize("arm", ["ale", "mixed"])
def test_trl_trains_what_is_exported_and_places_the_same(trained, tmp_path, arm):
    """The script alone, in a process without this library, offline, for two steps."""
    from safetensors.torch import load_file

    done = aletheia("export", "--for", "trl", trained, "--arm", arm, "--out", tmp_path / "sft.py")
    assert done.returncode == 0, done.stderr
    alone = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    ran = subprocess.run(
        [sys.executable, "sft.py"], cwd=tmp_path, env=alone, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    out = tmp_path / f"tiny-{arm}-seed1"
    ours = load_file(trained / f"results/train/tiny/{arm}/seed1/adapter/adapter_model.safetensors")
    theirs = load_file(out / "adapter_model.safetensors")
    # Names of modules and ranks, of A and of B.
    assert {name: value.shape for name, value in theirs.items()} == {name: value.shape for name, value in ours.items()}
    assert json.loads((out / "checkpoint-2/trainer_state.json").read_text())["global_step"] == 2
    scales = [
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (out, trained / f"results/train/tiny/{arm}/seed1/adapter")
    ]
    assert scales[0]["lora_alpha"] == scales[1]["lora_alpha"]
    assert scales[0]["use_rslora"] == scales[1]["use_rslora"]


def test_a_merged_model_is_the_model_with_its_adapter(trained, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    used = used_adapter(trained, arm="mixed")
    found = merge(used, tmp_path / "merged")
    assert found.difference < 1e-5
    assert found.effect > 1e-3
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    ids = torch.arange(1, 40)[None]
    base, _ = load_base(used, dtype="fp32")
    with torch.no_grad():
        plain = base(ids).logits
        adapted = with_adapter(base, used)(ids).logits
        assert torch.allclose(model(ids).logits, adapted, atol=1e-4)
        assert not torch.allclose(model(ids).logits, plain, atol=1e-2)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(used.base).chat_template
    written, before = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "merged", used.base))
    assert written["dtype"] == before["dtype"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "merged").iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask())
    assert "README.md" in modes


def umask():
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_merge_that_does_not_agree_leaves_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(merging.TOLERANCE, "fp32", 0.0)
    with pytest.raises(UserError, match=r"apart \(fp32 allows 0\), so nothing was written"):
        merge(used_adapter(trained, arm="ale"), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_merge_never_writes_over_a_folder_or_into_quantised_weights(trained, tmp_path):
    used = used_adapter(trained, arm="ale")
    with pytest.raises(UserError, match=r"expected a folder that is not there yet, found one"):
        merge(used, tmp_path)
    base = shutil.copytree(used.base, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(UserError, match=r"expected weights of 16 or 32 bits, found bitsandbytes ones"):
        used_adapter(used.adapter, base_model=base)


def test_an_adapter_without_its_study_wants_its_model(trained, tmp_path):
    adapter = shutil.copytree(used_adapter(trained, arm="ale").adapter, tmp_path / "adapter")
    with pytest.raises(
        UserError, match=r"expected the base model tiny on this machine, .*name its folder with --base-model"
    ):
        used_adapter(adapter)
    alone = used_adapter(adapter, base_model=trained / "resources/models/tiny")
    assert merge(alone, tmp_path / "merged").effect > 1e-3


def test_a_conversation_asks_as_the_study_did_and_answers_with_and_without_the_adapter(trained):
    talk = conversation(used_adapter(trained, arm="ale"), max_new_tokens=6)
    assert talk._asked("Say 3.")[0].endswith("### Instruction:\nSay 3.\n\n### Response:\n")
    adapted = talk.answer("Say 3.")
    talk.base = True
    plain = talk.answer("Say 3.")
    talk.base = False
    assert talk.answer("Say 3.") == adapted != plain


def test_a_chat_keeps_what_was_said_until_it_is_told_to_forget(trained):
    talk = conversation(used_adapter(trained, arm="ale"), prompt="chat", max_new_tokens=3)
    first = talk.answer("One?")
    assert talk._asked("Two?")[0].count("One?") == 1
    talk.forget()
    assert "One?" not in talk._asked("Two?")[0]
    assert talk.answer("One?") == first


def test_each_line_of_a_file_is_answered_by_a_line(trained):
    words = ("chat", trained, "--arm", "ale", "--max-new-tokens", 4)
    done = aletheia(*words, input="Say 3.\n\nSay 4.\nSay 3.\n")
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == 3
    assert answers[0] == answers[2]


def test_a_lock_that_is_anothers_is_refused(trained, tmp_path):
    study = shutil.copytree(trained, tmp_path / "study")
    shutil.copy(study / "resources/data/rows.lock.json", study / "resources/models/tiny.lock.json")
    with pytest.raises(UserError, match=r"expected the lock of its model where its study has it, found none"):
        exported(read_choice(find_run(study, arm="ale")), "peft")
