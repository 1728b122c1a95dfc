"""What a configuration says twice, to nobody, or otherwise than it looks is one sentence; what is meant well loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aletheia.cli import step_parser
from aletheia.errors import UserError
from aletheia.staging.local_paths import count_rows
from aletheia.study.configuration_files import read_configuration
from aletheia.study.load import load_study
from conftest import ROOT, SUPPORT, copy_project, edit, said, snakemake

CONFIG, CAMPAIGN, MODELS, DATA = "mine/config.yaml", "mine/campaign.yaml", "mine/models.yaml", "mine/data.yaml"
FILES = {
    "config/config.yaml": "campaigns: [config/campaigns/default.yaml]\n",
    CONFIG: f"""campaigns: [{CAMPAIGN}]
models: {MODELS}
data: {DATA}
""",
    CAMPAIGN: """name: mine
models: [small, large]
seeds: [42]
data: rows
reports: [speed]
benchmarks: [heldout, mmlu]
arms:
  std: {layers: all}
  ale: {layers: gradient, budget_percent: 50}
training: {steps: 40, warmup_steps: 4}
evaluation: {mmlu: {num_fewshot: 0}}
""",
    MODELS: """small:
  source: {type: local, path: models/small}
  layers: 9
  dtype: bf16
large:
  source: {type: hub, id: them/large, revision: abc123}
""",
    DATA: """rows:
  source: {type: local, path: mine.jsonl}
  held_out: 50
mmlu:
  source: {type: local, path: mmlu.jsonl, format: mmlu}
""",
    "mine/heldout.jsonl": '{"instruction": "a", "output": "b"}\n' * 30,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes the files, one of them edited, and loads their study."""
    monkeypatch.chdir(tmp_path)

    def load(*edits, given=(CONFIG,)):
        files = dict(FILES)
        for name, old, new in edits:
            assert old in files.get(name, ""), (name, old)
            files[name] = files[name].replace(old, new, 1) if old else new
        for name, content in files.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return load_study(read_configuration(map(Path, given)), count_rows)

    return load


def refused(project, *edits, says, **options):
    with pytest.raises(UserError) as raised:
        project(*edits, **options)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 450


def table():
    """Return the edits of bad_configuration.txt: (file, what stands there, what it becomes, what the sentence says)."""
    text = (SUPPORT / "bad_configuration.txt").read_text(encoding="utf-8")
    cases = re.findall(r"^(\w+\.yaml): (.+)\nbecomes:(?: (.*))?\nsays: (.+)$", text, flags=re.MULTILINE)
    assert len(cases) == len(re.findall("^says: ", text, flags=re.MULTILINE)) > 150
    plain = [[part.replace("\\n", "\n").replace("\\t", "\t") for part in case[:3]] for case in cases]
    return [(f"mine/{name}", old, new, says) for (name, old, new), (*_, says) in zip(plain, cases, strict=True)]


def bomb():
    """Text of a few hundred bytes whose aliases unfold to nine to the ninth values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for one, other in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{other}: &{other} [{', '.join([f'*{one}'] * 9)}]")
    return "\n".join(lines) + "\n"


# --- one sentence for each mistake ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "old", "new", "says"), table())
def test_a_mistake_is_one_sentence(project, file, old, new, says):
    refused(project, (file, old, new), says=says)


@pytest.mark.parametrize(
    ("rows", "training", "says"),
    [
        (4, "{batch_size: 2, accumulation: 1}", "probe.batches: needs 5 rows, and rows has 4 to train on"),
        (
            11,
            "{batch_size: 6}",
            "line 10: training.batch_size: an optimiser step of 6 × 2 rows needs 12, and rows has 11",
        ),
        (11, "{accumulation: 3}", "line 10: training.accumulation: an optimiser step of 4 × 3 rows needs 12, and"),
        (80, "{epochs: 2}", "training.epochs: found 2, which is 20 steps, but warmup_steps is 20 where not given: the"),
        (
            80,
            "{epochs: 3.5, warmup_steps: 4, curve_every: 35}",
            "training.curve_every: expected less than the 35 steps of training.epochs (3.5), found 35: no loss would",
        ),
        (
            87,
            "{epochs: 2, warmup_steps: 4, layers_active: {every: 20, count: 1}}",
            "training.layers_active: expected every to be less than the 20 steps of training.epochs (2), found 20",
        ),
    ],
)
def test_settings_that_ask_for_more_than_the_registrys_rows_are_one_sentence(project, rows, training, says):
    edits = [(DATA, "held_out: 50", f"held_out: 50\n  rows: {rows}")]
    refused(project, *edits, (CAMPAIGN, "{steps: 40, warmup_steps: 4}", training), says=says)


DEEP = "description: " + "[" * 1200
WHOLE = [
    (CAMPAIGN, "", b"\xff\xfe\x00", "expected a configuration file, found bytes that are no UTF-8"),
    (CAMPAIGN, "", b"\n", "mine/campaign.yaml: expected a mapping of settings, found an empty file"),
    (CAMPAIGN, "", b"- a\n", "expected a mapping of settings, found a list"),
    (CAMPAIGN, "", b"#" * 2_000_000, "expected a configuration file, found one of 2 MB"),
    (CAMPAIGN, "training:", f"{DEEP}\ntraining:", "expected at most 50 levels of nesting, found more"),
    (CAMPAIGN, "name:", f"x: {'[' * 60}{']' * 60}\nname:", "expected at most 50 levels of nesting, found 61"),
    (MODELS, "", bomb(), "expected at most 100,000 values, found 490,329,055 once every alias is unfolded"),
    (CAMPAIGN, "[42]", f"[{'9' * 5000}]", "line 3: found a number of 5000 digits; expected at most 18"),
    (CAMPAIGN, "name: mine", "name: mine\x07", "line 1: expected YAML, found the character #x0007; delete it"),
    (CAMPAIGN, "name: mine", 'name: mine\ndescription: "a\\0b"', "line 2: found the character #x0000 in a text"),
    (CAMPAIGN, "name: mine", 'name: mine\ndescription: "\\ud800"', "line 2: found the character #xd800 in a text"),
    (
        MODELS,
        "models/small",
        '"C:\\models"',
        "found unknown escape character 'm'); put a path with backslashes in",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "says"), WHOLE)
def test_a_file_that_is_no_configuration_is_one_sentence(project, file, old, new, says):
    refused(project, (file, old, new), says=says)


TOGETHER = [
    (
        [(CAMPAIGN, "{layers: all}", "{layers: all, models: [small]}"), (CAMPAIGN, "50}", "50, models: [large]}")],
        "reports.0: speed compares the arms std and ale, and no model has both",
    ),
    (
        [(CAMPAIGN, "[speed]", "[downstream]"), (CAMPAIGN, "[heldout, mmlu]", "[heldout]")],
        "reports.0: downstream is about benchmarks with questions, and benchmarks names none",
    ),
    (
        [
            (CAMPAIGN, "[heldout, mmlu]", "[heldout, gsm8k]"),
            (CAMPAIGN, "{mmlu: {num_fewshot: 0}}", "{gsm8k: {questions: mmlu, num_fewshot: 0}}"),
        ],
        "evaluation.gsm8k.questions: mmlu has mmlu questions (source.format: mmlu), and this needs gsm8k questions",
    ),
    (
        [(CONFIG, f"[{CAMPAIGN}]", f"[{CAMPAIGN}, b.yaml]"), ("b.yaml", "", FILES[CAMPAIGN])],
        "b.yaml, line 1: name: two campaigns are named 'mine', this and mine/campaign.yaml; rename one",
    ),
    (
        [
            (DATA, "held_out: 50", "held_out_path: mine/heldout.jsonl"),
            (CAMPAIGN, "warmup_steps: 4", "warmup_steps: 4, eval_rows: 31"),
        ],
        "training.eval_rows: expected at most 30, the held-out rows of rows (mine/heldout.jsonl), found 31",
    ),
    (
        [
            (DATA, "held_out: 50", "held_out: 50\n  test: 20"),
            (CAMPAIGN, "num_fewshot: 0}", "num_fewshot: 0}, heldout: {split: test, rows: 21}"),
        ],
        "evaluation.heldout.rows: expected at most 20, the test rows of rows (test in the registry of data), found 21",
    ),
    (
        [
            (MODELS, "layers: 9", "stand_in: {config: {model_type: llama}}"),
            (CAMPAIGN, ", large]", "]"),
            (CONFIG, "models:", "stand_ins: true\nrehearsal: {training: {eval_rows: 51}}\nmodels:"),
        ],
        "config: rehearsal.training.eval_rows: expected at most 50",
    ),
]


@pytest.mark.parametrize(("edits", "says"), TOGETHER)
def test_settings_that_contradict_each_other_across_files_are_one_sentence(project, edits, says):
    refused(project, *edits, says=says)


def test_a_later_configfile_must_not_replace_a_list_of_an_earlier_one(project):
    other = ("other.yaml", "", "campaigns: [config/campaigns/default.yaml]\n")
    says = "other.yaml, line 1: campaigns would replace the list of mine/config.yaml, for lists do not add up"
    refused(project, other, says=says, given=(CONFIG, "other.yaml"))
    # The Snakefile's own default is there to be replaced, and what is no list lies over the file before.
    look = ("look.yaml", "", f"figures: {{font_size: 7}}\ncampaigns: [{CAMPAIGN}]\n")
    loaded = project(look, given=(CONFIG, "look.yaml"))
    assert loaded.figures["font_size"] == 7
    assert [campaign["name"] for campaign in loaded.campaigns] == ["mine"]
    refused(project, says="expected a study's configuration, found a campaign; name it in", given=(CAMPAIGN,))


# --- what is meant well loads -----------------------------------------------------------------------------------------
FINE = {
    "as it is": [],
    "byte order mark": [(CAMPAIGN, "name:", "\ufeffname:")],
    "line ends of Windows": [(CAMPAIGN, "", FILES[CAMPAIGN].replace("\n", "\r\n"))],
    "anchors and merges": [(CAMPAIGN, "  ale:", "  a: &a {layers: last, rank: 4}\n  b: {<<: *a, rank: 8}\n  ale:")],
    "names in quotes": [(CAMPAIGN, "name: mine", "name: '2024'")],
    "a revision that only looks like a number": [(MODELS, "abc123", "1e5")],
    "a truth value as YAML 1.1 writes it": [(CAMPAIGN, "training:", "headline: no\ntraining:")],
    "a number with a sign": [(CAMPAIGN, "warmup_steps: 4", "learning_rate: +5.0e-4")],
    "settings of a benchmark that the list leaves out": [(CAMPAIGN, "[heldout, mmlu]", "[heldout]")],
    "a constant rate beside the default warm-up": [(CAMPAIGN, "warmup_steps: 4", "schedule: constant")],
    "a constant rate that says it has none": [(CAMPAIGN, "warmup_steps: 4", "warmup_steps: 0, schedule: constant")],
    "fewer held-out rows than the defaults": [(DATA, "held_out: 50", "held_out: 9")],
    "as many held-out rows as are asked": [
        (DATA, "held_out: 50", "held_out_path: mine/heldout.jsonl"),
        (CAMPAIGN, "warmup_steps: 4", "warmup_steps: 4, eval_rows: 30"),
    ],
    "more test rows than held-out ones": [
        (DATA, "held_out: 50", "held_out: 50\n  test: 60"),
        (CAMPAIGN, "num_fewshot: 0}", "num_fewshot: 0}, heldout: {split: test, rows: 55}"),
    ],
    "a file of held-out rows that its staging will refuse": [
        (DATA, "held_out: 50", "held_out_path: mine/heldout.parquet"),
        ("mine/heldout.parquet", "", b"no table"),
        (CAMPAIGN, "warmup_steps: 4", "warmup_steps: 4, eval_rows: 30"),
    ],
    "a control that takes every layer by its scores": [
        (CAMPAIGN, "  ale:", "  whole: {layers: gradient, budget_percent: 100}\n  ale:")
    ],
    "arms that differ in rank alone": [(CAMPAIGN, "  ale:", "  low: {layers: gradient, rank: 4}\n  ale:")],
    "equal arms of different models": [
        (CAMPAIGN, "  ale:", "  a: {layers: last, models: [small]}\n  b: {layers: last, models: [large]}\n  ale:")
    ],
    "the smallest share": [(CAMPAIGN, "budget_percent: 50", "budget_percent: 1")],
}


@pytest.mark.parametrize("edits", FINE.values(), ids=FINE)
def test_what_is_meant_well_loads(project, edits):
    assert {("small", "std", 42), ("small", "ale", 42)} <= set(project(*edits).runs)


def test_every_configuration_of_the_project_loads(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = ("config/paper", "config/rehearsal", "tests/study/config", "tests/cluster/config", "tests/cluster/one")
    runs = [len(load_study(read_configuration([Path(f"{name}.yaml")])).runs) for name in names]
    assert runs == [153, 99, 7, 6, 2]


# --- settings by hand -------------------------------------------------------------------------------------------------
BY_HAND = {
    "training.steps=4": "--set: training.steps: found 4, but warmup_steps is 20 where not given",
    "training.learning_rate=5e-4": "--set: training.learning_rate: expected a value of type number, found '5e-4'",
    "training.epochs=0": "--set: training.epochs: expected more than 0, found 0",
    "training.epochs=": "--set: training.epochs: expected a number, found nothing; write one",
    "training.steps=200.0": "--set: training.steps: expected a value of type integer, found 200.0; write 200",
    "training.optimizer.beta1=2": "--set: training.optimizer.beta1: expected less than 1, found 2",
    "training.eval_rows=0x10": "--set training.eval_rows=0x10: found 0x10, which YAML reads as 16; write 16",
    "arm.budget_percent=25": "--set: arm.budget_percent: found 25 beside layers: all, which does not read it",
    "arm={layers: last}": "--set arm={layers: last}: expected SECTION.KEY=VALUE",
    "arm.layers=gradients": "--set: arm.layers: expected one of all, gradient, fisher, block_influence",
    "model.dtype=bf61": "--set: model.dtype: expected one of auto, bf16, fp16, fp32, found 'bf61'",
    "adapter.modules=down": "--set: adapter.modules: expected one of all, attention, mlp; or a value of type array",
    "adapter.rank={attention: 4}": "--set: adapter.rank: expected the key 'mlp' too, or one number for all",
    "adapter.rank=.nan": "--set adapter.rank=.nan: found .nan, which is no finite number",
}


@pytest.mark.parametrize(("item", "says"), BY_HAND.items())
def test_a_mistake_by_hand_is_one_sentence(item, says):
    parser = step_parser(
        "train", None, script="train.py", sections=("run", "model", "encoding", "adapter", "arm", "training")
    )
    with pytest.raises(UserError) as raised:
        parser.parse_args(["--set", item])
    assert str(raised.value).startswith(says)


def test_steps_and_epochs_by_hand_are_one_sentence():
    parser = step_parser("batches", None, script="draw_batches.py", sections=("encoding", "batches"))
    with pytest.raises(UserError, match=r"^--set: batches\.epochs: found 2 beside steps: 40, and each says how long"):
        parser.parse_args(["--set", "batches.epochs=2", "batches.steps=40"])


def test_settings_by_hand_that_belong_together_are_taken():
    parser = step_parser("select", None, script="select_layers.py", sections=("arm", "adapter"))
    # In one group or in two, of which the first was once forgotten.
    given = parser.parse_args(["--set", "arm.layers=random", "arm.budget_percent=25", "--set", "arm.draw=2"]).config[
        "arm"
    ]
    assert given == {"layers": "random", "budget_percent": 25, "score": "l2", "draw": 2}
    with pytest.raises(UserError, match=r"^--set arm\.draw: given more than once; keep one$"):
        parser.parse_args(["--set", "arm.layers=random", "arm.draw=1", "--set", "arm.draw=2"])


# --- through Snakemake ------------------------------------------------------------------------------------------------
SNAKEMAKE = [
    ("tests/study/campaign.yaml", "seeds: [1]", "seeds: [042]", "line 4: found 042, which YAML reads as 34; write 42"),
    ("tests/study/config.yaml", "data:", "data: x.yaml\ndata:", "config.yaml, line 5: found the key 'data' again"),
    ("tests/study/campaign.yaml", "std: {layers: all}", "std: {layers: first}", "arms.std.layers: expected all"),
    ("tests/study/models.yaml", "tiny-neox:", "on:", "models.yaml, line 8: found the key on, which YAML reads as true"),
]


@pytest.mark.slow
def test_snakemake_says_it_before_anything_is_planned(tmp_path):
    folder = copy_project(tmp_path / "project")
    study = ("-n", "--configfile", "tests/study/config.yaml")
    calls = [(*case, ()) for case in SNAKEMAKE]
    calls.append(("README.md", "", "", "config/paper.yaml, line 3: campaigns would replace", ("config/paper.yaml",)))
    for file, old, new, says, more in calls:
        kept = (folder / file).read_text(encoding="utf-8")
        if old:
            edit(folder / file, old, new)
        done = snakemake(folder, *study, *more)
        (folder / file).write_text(kept, encoding="utf-8")
        assert done.returncode != 0
        assert says in said(done)
        assert "Traceback" not in said(done)
        assert "Job stats" not in said(done)
