"""Each key of a campaign: a dry run sees another value where it decides something, and reruns no more than it must."""

import copy
import functools
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from aletheia.audit.dry_run import planned_jobs
from aletheia.audit.rerun_reasons import differences
from aletheia.audit.sidecars import envelope_of
from aletheia.provenance import artifacts
from aletheia.study.schema import schema
from conftest import said, snakemake

NOTHING = "Nothing to be done"
# Another value for each key of a campaign.
OTHERS = {
    "name": "other",
    "interleaving.seeds": 1,
    "reports": ["speed"],
    "models": ["tiny-llama"],
    "seeds": [2],
    "data": "other",
    "benchmarks": ["heldout", "mmlu"],
    "mixed": "mark",
    "speed": "turns",
    "headline": False,
    "arms.ale.layers": "last",
    "arms.ale.budget_percent": 25,
    "arms.ale.score": "relative",
    "arms.ale.draw": 1,
    "arms.ale.unit": "module",
    "arms.ale.time_percent": 75,
    "arms.drawn.draws": 2,
    "arms.ale.rank": 1,
    "arms.ale.alpha": 1,
    "arms.cm.extra_steps_percent": 25,
    "arms.cm.steps": "measured",
    "arms.cm.learning_rate": {"best_of": ["cm_slow"]},
    "arms.cm.equal": {"layers": "ale"},
    "arms.cm.models": ["tiny-llama"],
    "probe.method": "sketch",
    "probe.batches": 1,
    "probe.batch_size": 2,
    "probe.gradient_checkpointing": True,
    "encoding.prompt": "plain",
    "encoding.max_tokens": 300,
    "encoding.loss_on": "all",
    "adapter.rank": 1,
    "adapter.alpha": 1,
    "adapter.dropout": 0.1,
    "adapter.modules": "mlp",
    "adapter.scaling": "rslora",
    "training.steps": 5,
    "training.epochs": 2.5,
    "training.batch_size": 1,
    "training.accumulation": 1,
    "training.learning_rate": 0.1,
    "training.schedule": "linear",
    "training.warmup_steps": 0,
    "training.warmup_from": "first_step",
    "training.curve_every": 1,
    "training.layers_active.every": 1,
    "training.layers_active.count": 1,
    "training.layers_active.draw": 1,
    "training.max_grad_norm": 0,
    "training.optimizer.beta1": 0.8,
    "training.optimizer.beta2": 0.9,
    "training.optimizer.epsilon": 0.1,
    "training.optimizer.weight_decay": 0.1,
    "training.optimizer.loraplus_lr_ratio": 2,
    "training.timing_warmup_steps": 0,
    "training.eval_rows": 4,
    "training.gradient_checkpointing": True,
    "training.prefix_cache": "disk",
    "training.time_limit_seconds": 60,
    "evaluation.batch_size": 2,
    "evaluation.generation": "vllm",
    "evaluation.prompt": "chat",
    "evaluation.time_limit_seconds": 60,
    "evaluation.heldout.rows": 4,
    "evaluation.heldout.split": "test",
    "evaluation.mmlu.questions": "other_mmlu",
    "evaluation.mmlu.num_fewshot": 1,
    "evaluation.humaneval.questions": "other_humaneval",
    "evaluation.humaneval.max_new_tokens": 5,
    "evaluation.humaneval.sandbox": "bubblewrap",
    "evaluation.openbookqa.questions": "other_openbookqa",
    "evaluation.openbookqa.num_fewshot": 1,
    "evaluation.retention.passages": "other_retention",
    "evaluation.retention.rows": 3,
    "evaluation.retention.max_tokens": 16,
}
# What only an arm of a campaign may state, as examples: which steps run again, and which do not.
OTHER_ARMS = {"train_std", "train_cm", "probe", "batches", "tokens", "precision"}
STATED = {
    "arms.ale.learning_rate": (0.1, {"train_ale"}, {"select", *OTHER_ARMS}),
    "arms.ale.batch_size": (1, {"train_ale"}, {"select", *OTHER_ARMS}),
    "arms.ale.modules": (["v_proj"], {"select", "train_ale"}, OTHER_ARMS),
    "overrides.tiny-llama.arms.lean.learning_rate": (
        0.1,
        {"train_std"},
        {"train_ale", "train_cm", "select", "batches"},
    ),
}
# What must change with some of them, for they would contradict it; None takes a key out.
BESIDE = {
    "models": {"overrides": None},
    "benchmarks": {"overrides.tiny-llama.arms.lean.benchmarks": None},
    "arms.ale.draw": {"arms.ale.layers": "random"},
    "arms.ale.time_percent": {"arms.ale.layers": "cost_aware", "arms.ale.budget_percent": None},
    "arms.drawn.draws": {"arms.drawn.layers": "random"},
    "training.warmup_steps": {"overrides.tiny-llama.arms.lean.warmup_from": None},
    "arms.cm.steps": {"arms.cm.extra_steps_percent": None},
    "training.epochs": {"training.steps": None},
    "interleaving.seeds": {"speed": "turns"},
    "evaluation.heldout.split": {"data": "tested"},
    "arms.cm.learning_rate": {
        "data": "tested",
        "evaluation.heldout.split": "test",
        "arms.cm_slow": {"layers": "gradient", "extra_steps_percent": 50, "learning_rate": 1e-4},
    },
}
# These decide nothing that the tiny study makes: words, a benchmark that no run asks for, a step of its own.
IDLE = {
    "training.prefix_cache_gib": 1,
    "training.checkpoint_seconds": 60,
    "training.tensorboard": False,
    "description": "For a change.",
    "evaluation.gsm8k.questions": "mmlu",
    "evaluation.gsm8k.num_fewshot": 1,
    "evaluation.gsm8k.max_new_tokens": 5,
    "evaluation.piqa.questions": "mmlu",
    "evaluation.piqa.num_fewshot": 1,
    "probe.update_steps": 2,
    "stability.draws": 4,
    "stability.batches": [2],
    "stability.score": "relative",
    "stability.budget_percent": 25,
    "interleaving.rounds": 3,
    "interleaving.steps": 2,
}


# For a key, steps that run again with another value, and steps that do not.
TOKENS_FOLLOW = {
    "encoding.prompt": ({"tokens", "precision", "batches", "probe", "train_std"}, {"stage_data"}),
    "encoding.max_tokens": ({"tokens", "precision", "batches", "probe", "train_std"}, {"stage_data"}),
    "probe.batches": ({"probe", "select", "train_ale"}, {"tokens", "precision", "batches", "train_std"}),
    "training.steps": ({"batches", "train_std"}, {"tokens", "precision", "probe", "select"}),
    "training.epochs": ({"batches", "train_std"}, {"tokens", "precision", "probe", "select"}),
    "training.eval_rows": ({"train_std"}, {"tokens", "precision", "probe", "batches"}),
    "speed": ({"interleave", "aggregate", "stats"}, {"tokens", "probe", "select", "batches", "train_std", "train_ale"}),
}


def keys(node, prefix=""):
    """Yield the dotted name of each key that a schema's sections hold."""
    for name, child in node.get("properties", {}).items():
        yield from keys(child, f"{prefix}{name}.") if "properties" in child else [prefix + name]


def test_each_key_of_a_campaign_has_another_value():
    campaign = schema("campaign")
    arms = {f"arms.{name}" for name in campaign["$defs"]["arm"]["properties"]}
    known = {*keys(campaign), *arms} - {"arms"}
    # What a search declares makes nothing of the study's (tests/unit/study/test_searches.py).
    known = {key for key in known if not key.startswith(("overrides", "search."))}
    assert {re.sub(r"^arms\.\w+", "arms", key) for key in OTHERS} | set(IDLE) == known


@pytest.fixture
def campaign(study):
    """Return the tiny campaign as it is written; its study's registry has other data sets of the same rows too."""
    registry = yaml.safe_load((study / "tests/study/data.yaml").read_text())
    asked = ("mmlu", "humaneval", "openbookqa", "retention")
    registry |= {"tested": {**registry["rows"], "test": 8}}
    registry |= {"other": registry["rows"], **{f"other_{name}": registry[name] for name in asked}}
    (study / "registry.yaml").write_text(yaml.safe_dump(registry))
    return yaml.safe_load((study / "tests/study/campaign.yaml").read_text())


VALUES = {**OTHERS, **IDLE, **{key: value for key, (value, *_) in STATED.items()}}


def configured(study, campaign, name, keys):
    """Write a study whose campaign has other values for some keys; return its configuration's name."""
    other = copy.deepcopy(campaign)
    changes = {key: VALUES[key] for key in keys}
    for key in keys:
        changes |= BESIDE.get(key, {})
    for place, value in changes.items():
        *sections, last = place.split(".")
        section = functools.reduce(lambda inner, part: inner.setdefault(part, {}), sections, other)
        if value is None:
            del section[last]
        else:
            section[last] = value
    # In their order, since that of the arms is the ledger's.
    (study / f"{name}.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    config = {"campaigns": [f"{name}.yaml"], "models": "tests/study/models.yaml", "data": "registry.yaml"}
    (study / f"{name}.config.yaml").write_text(yaml.safe_dump(config))
    return f"{name}.config.yaml"


def planned_rules(study, campaign, name, keys):
    """Return the rules that a study with other values for some keys would run."""
    done = snakemake(study, "-n", "--configfile", configured(study, campaign, name, keys))
    assert done.returncode == 0, said(done)
    planned = set(re.findall(r"^(?:local)?rule (\w+):$", said(done), flags=re.MULTILINE))
    assert bool(planned) is (NOTHING not in said(done))
    return planned


# Keys that a step's own settings hold under their own name, or this one: whether a dry run sees them is read from what
# it would pass to each job, beside what the job's artifact was made with, so that one dry run serves for all of them.
SHOWN = {
    key: "training.layers_active"
    if key.startswith("training.layers_active.")
    else {"evaluation.humaneval.sandbox": "humaneval.sandbox"}.get(key, key)
    for key in OTHERS
    if key.partition(".")[0] in ("probe", "encoding", "adapter", "training", "evaluation")
    # Where steps follow and where not is asked of these; the last two go together with no other.
    and key not in {*TOKENS_FOLLOW, "training.warmup_steps", "evaluation.generation"}
}


@pytest.mark.slow
def test_a_key_that_a_step_s_settings_hold_reaches_that_step_s_params(study, campaign, monkeypatch):
    """Params are what Snakemake compares, so that a job of another value would run again for that alone."""
    monkeypatch.chdir(study)
    differing = set()
    for job in planned_jobs([configured(study, campaign, "shown", SHOWN)]):
        places = (envelope_of(study / output) for output in job.outputs)
        if made := next(filter(None, places), None):
            differing |= {found.partition(": ")[0] for found in differences(artifacts.read(made)["lineage"], job.facts)}
    assert {key for key, shown in SHOWN.items() if shown not in differing} == set()


@pytest.mark.slow
def test_each_key_that_decides_something_is_seen_by_the_dry_run(study, campaign):
    alone = [key for key in VALUES if key not in {*SHOWN, *IDLE}]
    with ThreadPoolExecutor(2) as pool:
        plans = pool.map(lambda key: planned_rules(study, campaign, key, [key]), alone)
        seen = dict(zip(alone, plans, strict=True))
    assert [key for key in alone if not seen[key]] == []
    # Rows are encoded once for all that reads them; what does not decide the encoding leaves it, and the others, alone.
    for key, (others, same) in {**TOKENS_FOLLOW, **{key: expected for key, (_, *expected) in STATED.items()}}.items():
        assert (others - seen[key], same & seen[key]) == (set(), set()), key


def test_keys_that_decide_nothing_here_plan_nothing_even_together(study, campaign):
    assert planned_rules(study, campaign, "idle", IDLE) == set()
