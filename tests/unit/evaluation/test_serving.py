"""Generation by vLLM: what is asked, what is recorded, what is refused; support/stand_in/vllm writes."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time

import pyarrow.parquet
import pytest
import torch

from aletheia.errors import UserError
from aletheia.evaluation import evaluate, evaluated_run, vllm_backend
from aletheia.method.adapters import config_from_plan
from aletheia.provenance import artifacts
from aletheia.study.evaluation_jobs import jobs_of
from aletheia.training.deadlines import Deadline
from conftest import STUDY, SUPPORT, copy_project, edit, run_script, said, snakemake, tiny_model
from evaluations import CONFIG, GSM8K, HUMANEVAL, ROWS, data_lock, model_lock, run_json, script_arguments

STAND_IN = SUPPORT / "stand_in"
GENERATED = ["gsm8k", "humaneval"]
# Long enough for stop strings that do occur, in rows of unequal length.
EVALUATION = {**CONFIG["evaluation"], "benchmarks": GENERATED, "batch_size": 2}
CONFIG = {**CONFIG, "model": {**CONFIG["model"], "dtype": "bf16"}, "evaluation": EVALUATION}


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    return {
        "model": model_lock(folder),
        "data": data_lock(folder, "docs", train=ROWS, heldout=ROWS),
        "gsm8k": data_lock(folder, "gsm8k", questions=GSM8K),
        "humaneval": data_lock(folder, "humaneval", questions=HUMANEVAL),
    }


@pytest.fixture(scope="module")
def run(staged, tmp_path_factory):
    """Return run.json beside a random adapter."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("run")
    section = {**CONFIG["model"], "dtype": "fp32"}
    model, _ = evaluated_run.load_model(staged["model"], None, dtype="fp32", section=section)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    model.save_pretrained(folder / "adapter")
    return run_json(folder, files={p.name: artifacts.sha256_file(p) for p in (folder / "adapter").iterdir()})


@pytest.fixture
def vllm(monkeypatch):
    """Put the stand-in where vLLM would be installed."""
    monkeypatch.syspath_prepend(STAND_IN)
    yield importlib.import_module("vllm")
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


def load(staged, run=None, **changes):
    config = {**CONFIG, "evaluation": {**EVALUATION, **changes}}
    parts = vllm_backend.load_served(staged["model"], run, dtype="bf16", config=config)
    return parts, config


def table(folder, name):
    stem = "humaneval.generations" if name == "humaneval" else name
    return pyarrow.parquet.read_table(folder / f"{stem}.parquet")


# The step, as its rule runs it


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True])
def test_the_artifacts_are_those_of_transformers(staged, run, tmp_path, adapted):
    """The same prompts, texts, token counts and statuses; what wrote them is said, and that no weights were loaded."""
    who = run if adapted else None
    plain = {**CONFIG, "model": {**CONFIG["model"], "dtype": "fp32"}}
    done = run_script("evaluate_run.py", *script_arguments(staged, tmp_path / "plain", run=who, config=plain))
    assert done.returncode == 0, done.stderr
    arguments = script_arguments(staged, tmp_path / "served", run=who, config=CONFIG)
    done = run_script("generate.py", *arguments, PYTHONPATH=str(STAND_IN))
    assert done.returncode == 0, done.stderr
    for name in GENERATED:
        theirs, ours = table(tmp_path / "plain", name), table(tmp_path / "served", name)
        assert ours.num_rows == 3
        assert ours.equals(theirs), name
    if adapted:
        # Or an adapter that was forgotten would pass.
        done = run_script(
            "generate.py", *script_arguments(staged, tmp_path / "base", config=CONFIG), PYTHONPATH=str(STAND_IN)
        )
        assert done.returncode == 0, done.stderr
        assert any(not table(tmp_path / "base", name).equals(table(tmp_path / "served", name)) for name in GENERATED)
    theirs, ours = (artifacts.payload(tmp_path / kind / "gsm8k.json", "evaluation") for kind in ("plain", "served"))
    assert ours == {**theirs, "dtype": "bf16", "generation": "vllm", "padding": "none"}
    assert ("generation" in theirs, theirs["padding"]) == (False, "left")
    assert artifacts.read(tmp_path / "served" / "gsm8k.json")["lineage"]["step"] == "generate"


@pytest.mark.slow
def test_generated_programs_are_judged_as_any(staged, tmp_path):
    done = run_script("generate.py", *script_arguments(staged, tmp_path, config=CONFIG), PYTHONPATH=str(STAND_IN))
    assert done.returncode == 0, done.stderr
    arguments = ["--generations", tmp_path / "humaneval.generations.parquet", "--questions", staged["humaneval"]]
    lineage = f"config:humaneval={json.dumps(CONFIG['evaluation']['humaneval'])}"
    done = run_script("score_code.py", *arguments, "--out-dir", tmp_path, "--lineage", lineage)
    assert done.returncode == 0, done.stderr
    payload = artifacts.payload(tmp_path / "humaneval.json", "evaluation")
    assert (payload["generation"], payload["n"], payload["n_correct"]) == ("vllm", 3, 0)


def test_a_failed_run_needs_no_vllm(staged, tmp_path):
    failed = run_json(tmp_path, status="diverged")
    done = run_script("generate.py", *script_arguments(staged, tmp_path / "out", run=failed, config=CONFIG))
    assert done.returncode == 0, done.stderr
    payload = artifacts.payload(tmp_path / "out" / "gsm8k.json", "evaluation")
    assert (payload["status"], payload["generation"]) == ("no_adapter", "vllm")


@pytest.mark.slow
@pytest.mark.parametrize(("attempt", "status"), [(1, "ok"), (2, "timeout")])
def test_a_second_try_ends_before_its_job_does(staged, tmp_path, attempt, status):
    arguments = script_arguments(staged, tmp_path, config=CONFIG)
    end = str(int(time.time()) + 100)
    where = {"PYTHONPATH": str(STAND_IN), "SLURM_JOB_END_TIME": end}
    done = run_script("generate.py", *arguments, "--attempt", attempt, **where)
    assert done.returncode == 0, done.stderr
    assert artifacts.payload(tmp_path / "gsm8k.json", "evaluation")["status"] == status


@pytest.mark.slow
def test_where_vllm_is_missing_it_is_one_sentence(staged, tmp_path):
    done = run_script("generate.py", *script_arguments(staged, tmp_path, config=CONFIG))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "evaluation.generation is vllm, which cannot be imported here (No module named 'vllm')" in line
    assert "Traceback" not in done.stderr


def test_benchmarks_that_generate_nothing_are_refused(staged):
    with pytest.raises(
        UserError, match=r"expected some of gsm8k, humaneval, .* found heldout; evaluate_run\.py answers"
    ):
        load(staged, benchmarks=["heldout", "gsm8k"])


# The engine


def test_stops_ids_and_special_tokens(staged, vllm):
    """Rows end at stop strings, out of order, and come back in order; a special token can be a stop string."""
    (_, tokenizer, write), _ = load(staged)
    prompts = [tokenizer.encode(text) for text in ("one and more", "x", "seventeen plus", "b" * 30, "two")]
    free = write(prompts, [], 12, lambda: None)
    assert [len(answer.tokens) for answer in free] == [12] * 5
    cut = tokenizer.decode(free[0].tokens[3:5])
    stopped = write(prompts, ["", cut], 12, lambda: None)
    assert len(stopped[0].tokens) <= 5
    assert len({len(answer.tokens) for answer in stopped}) > 1
    for answer, whole in zip(stopped, free, strict=True):
        assert answer.tokens == whole.tokens[: len(answer.tokens)]
    special = tokenizer.decode([tokenizer.eos_token_id])
    assert tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=True) == ""
    asked = []
    params = vllm.SamplingParams
    vllm.SamplingParams = lambda **settings: (asked.append(settings), params(**settings))[1]
    write(prompts[:1], [special], 2, lambda: None)
    assert asked[0]["stop"] == [special]
    assert asked[0]["skip_special_tokens"] is False


@pytest.mark.usefixtures("vllm")
def test_a_penalty_of_the_models_own_counts(tmp_path):
    lock = model_lock(tmp_path)
    (_, tokenizer, write), _ = load({"model": lock})
    prompts = [tokenizer.encode("aaaa")]
    free = write(prompts, [], 12, lambda: None)
    folder = lock.parent / "tiny"
    own = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**own, "repetition_penalty": 4.0}))
    engine = vllm_backend.Engine(folder, dtype="bf16", slots=2)
    assert engine.generate(prompts, [], 12, lambda: None) != free


@pytest.mark.usefixtures("vllm")
def test_statuses_are_those_of_any_evaluation(staged, tmp_path):
    (model, tokenizer, write), config = load(staged)
    engine = write.__self__
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}

    def outcome(**changes):
        loaded = evaluate.LoadedModel(model, tokenizer, 2, **{"writer": write, **changes})
        return evaluate.evaluate(loaded, "humaneval", staged["humaneval"], config=config)

    assert outcome().status == "ok"
    late = outcome(deadline=Deadline(0.0))
    assert (late.status, late.n) == ("timeout", 0)
    exhausted = outcome(writer=lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.")))
    assert (exhausted.status, exhausted.reason) == ("failed", "out of memory: CUDA out of memory.")
    with torch.no_grad():
        engine.llm.model.get_input_embeddings().weight.fill_(math.nan)
    broken = outcome()
    assert (broken.status, {row["status"] for row in broken.rows}) == ("failed", {"nan"})


@pytest.mark.usefixtures("vllm")
def test_time_is_looked_at_before_each_pass(staged):
    (_, tokenizer, write), _ = load(staged)
    left = iter(range(3))

    def tick():
        if next(left, None) is None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        write([tokenizer.encode("one")], [], 12, tick)


def test_what_a_broken_benchmark_left_is_no_answer_of_the_next(staged, vllm):
    engine = vllm_backend.Engine(staged["model"].parent / "tiny", dtype="bf16", slots=2)
    alone = engine.generate([[5, 6], [7, 8, 9]], [], 3, lambda: None)
    passes = iter(range(2))

    def tick():
        if next(passes, None) is None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        engine.generate([[1, 2], [3, 4], [5, 5]], [], 3, tick)
    assert engine.generate([[5, 6], [7, 8, 9]], [], 3, lambda: None) == alone


@pytest.mark.usefixtures("vllm")
def test_a_window_that_memory_cuts_is_one_sentence(staged):
    (_, tokenizer, write), _ = load(staged)
    write.__self__.llm.model_config.max_model_len = 10
    with pytest.raises(
        UserError, match="found memory for 10 tokens a row, and the longest prompt with its answer has 1"
    ):
        write([tokenizer.encode("one")], [], 12, lambda: None)


def test_what_vllm_itself_refuses_is_one_sentence(staged, vllm):
    def refuse(**_):
        raise ValueError("Total number of attention heads (2)\nmust be divisible by tensor parallel size (4).")

    vllm.LLM = refuse
    with pytest.raises(UserError, match=r"vLLM does not serve this model \(Total number of attention heads \(2\) must"):
        load(staged)


# What cannot be served


def adapter(folder, plan, model_type="llama"):
    """Write what the library would save of an adapter's settings, and of its model's."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    config_from_plan(plan, tiny_model("llama")).save_pretrained(folder)
    return folder


def plan(ranks, alphas, **more):
    names = [f"model.layers.0.{name}" for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj")]
    pairs = {"rank_pattern": ranks, "alpha_pattern": alphas}
    return {"target_modules": names, **{k: dict(zip(names, v, strict=True)) for k, v in pairs.items()}, **more}


@pytest.mark.parametrize(
    ("placed", "kind", "reason"),
    [
        (plan([16] * 3, [32] * 3), "llama", None),
        # PEFT scales each module by its own alpha and rank, vLLM all by one pair.
        (plan([16, 16, 64], [32, 32, 128]), "llama", None),
        (plan([16, 16, 64], [32, 32, 32]), "llama", "an adapter with more than one ratio of alpha to rank"),
        (plan([16] * 3, [32, 32, 64]), "qwen2", "an adapter with more than one ratio of alpha to rank"),
        (plan([1024] * 3, [32] * 3), "llama", "rank 1024"),
        (
            plan([16] * 3, [32] * 3, target_parameters=["model.layers.0.mlp.experts.down_proj"]),
            "mixtral",
            "fused experts",
        ),
    ],
)
def test_an_adapter_that_would_be_served_wrongly_is_refused(tmp_path, placed, kind, reason):
    folder = adapter(tmp_path / "adapter", placed, kind)
    found = vllm_backend.unserved_adapter(folder)
    assert found is reason is None or reason in found


@pytest.mark.parametrize(("kind", "served"), [("llama", True), *((kind, False) for kind in vllm_backend.NO_ADAPTERS)])
def test_a_family_without_adapters_is_refused_for_its_base_model_too(tmp_path, kind, served):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    found = vllm_backend.unserved_family(tmp_path)
    assert found is None if served else found == f"adapters of a {kind} model"


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"model_type": "llama", "rope_parameters": {"rope_type": "default"}}, -1),
        ({"model_type": "llama"}, -1),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 2048}}, 2048),
    ],
)
def test_factors_that_depend_on_the_length_are_served_within_the_original_window(tmp_path, config, window):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert vllm_backend.window_of(tmp_path) == window


def test_an_adapter_as_large_as_its_largest_module_has_room(staged, run, vllm):
    folder = run.parent / "adapter"
    settings = json.loads((folder / "adapter_config.json").read_text())
    changed = {**settings, "rank_pattern": {"a": 20}, "alpha_pattern": {"a": 80}}
    (run.parent / "large").mkdir()
    (run.parent / "large" / "adapter_config.json").write_text(json.dumps(changed))
    (run.parent / "large" / "adapter_model.safetensors").write_bytes(
        (folder / "adapter_model.safetensors").read_bytes()
    )
    engine = vllm_backend.Engine(staged["model"].parent / "tiny", dtype="bf16", slots=2, adapter=run.parent / "large")
    assert engine.llm.max_lora_rank == 32


def test_a_model_whose_settings_vllm_does_not_serve_is_refused(staged):
    section = {**CONFIG["model"], "quantization": "nf4"}
    with pytest.raises(UserError, match=r"tiny\.lock\.json: vLLM does not serve quantization: nf4; set evaluation"):
        vllm_backend.load_served(staged["model"], None, dtype="bf16", config={**CONFIG, "model": section})
    with pytest.raises(UserError, match="vLLM does not serve dtype: fp32"):
        vllm_backend.load_served(staged["model"], None, dtype="fp32", config=CONFIG)


# The rules


def test_jobs_are_split_only_where_vllm_generates():
    asked = ["heldout", "mmlu", "gsm8k", "humaneval"]
    assert jobs_of(asked, "transformers") == {"evaluate": asked}
    assert jobs_of(asked, "vllm") == {"evaluate": asked[:2], "generate": asked[2:]}
    assert jobs_of(["humaneval"], "vllm") == {"generate": ["humaneval"]}
    assert jobs_of(["mmlu"], "vllm") == {"evaluate": ["mmlu"]}


@pytest.fixture
def project(tmp_path):
    """Return a copy of the project whose tiny study generates with vLLM."""
    folder = copy_project(tmp_path / "project")
    edit(
        folder / "tests/study/campaign.yaml",
        "  batch_size: 4\n  heldout",
        "  batch_size: 4\n  generation: vllm\n  heldout",
    )
    edit(folder / "tests/study/models.yaml", "dtype: auto", "dtype: bf16")
    return folder


@pytest.mark.slow
def test_a_dry_run_plans_both_jobs_of_a_run(project):
    done = snakemake(project, "-n", "-p", *STUDY)
    text = said(done)
    assert done.returncode == 0, text[-2000:]
    # Base, std, ale and cm of one model, whose fifth arm answers other benchmarks; the other model generates nothing.
    for rule in ("evaluate_heldout_mmlu_openbookqa_retention", "evaluate_heldout", "generate_humaneval", "score_code"):
        assert f"\n{rule} " in text
    (commands,) = {line.strip() for line in text.splitlines() if "generate.py" in line and "tiny-llama/base" in line}
    assert '"generation":"vllm"' in commands
    assert '"benchmarks":["humaneval"]' in commands
    assert "env:envs/vllm.yaml=" in commands
    others = [line for line in text.splitlines() if "evaluate_run.py --" in line]
    assert len(others) == 9
    assert not any("vllm" in line for line in others)


@pytest.mark.slow
def test_the_rule_runs_and_its_programs_are_judged(project):
    target = "results/evaluate/tiny-llama/base/humaneval.json"
    done = snakemake(project, target, *STUDY, PYTHONPATH=str(STAND_IN))
    assert done.returncode == 0, said(done)[-3000:]
    payload = artifacts.payload(project / target, "evaluation")
    assert (payload["generation"], payload["status"]) == ("vllm", "ok")
    assert (project / "logs/generate/tiny-llama/base.log").is_file()
    assert not (project / "results/evaluate/tiny-llama/base/heldout.json").exists()


@pytest.mark.slow
def test_a_registry_entry_that_vllm_does_not_serve_is_one_sentence(project):
    for old, new in (("bf16", "fp32"), ("bf16", "bf16\n  quantization: nf4"), ("bf16", "fp16\n  attention: fp32")):
        path = project / "tests/study/models.yaml"
        before = path.read_text()
        edit(path, f"dtype: {old}", f"dtype: {new}")
        done = snakemake(project, "-n", *STUDY)
        path.write_text(before)
        assert done.returncode != 0
        assert "evaluation.generation is vllm, which does not serve tiny-llama as the registry has it (" in said(done)
        assert "Traceback" not in said(done)


def test_two_campaigns_answer_a_model_by_the_same_program(project):
    second = (project / "tests/study/campaign.yaml").read_text()
    second = second.replace("name: tiny", "name: second").replace("generation: vllm", "generation: transformers")
    (project / "second.yaml").write_text(second)
    edit(project / "tests/study/config.yaml", "campaign.yaml]", "campaign.yaml, second.yaml]")
    done = snakemake(project, "-n", *STUDY)
    assert "tiny-llama has other evaluation.generation settings in an earlier campaign" in said(done)


def test_the_steps_show_their_help():
    done = run_script("generate.py", "--help")
    assert done.returncode == 0
    assert "vLLM" in done.stdout
