"""The rules say what: paths as the library spells them, wildcards bound to its functions, little Python."""

import inspect
import re
from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from aletheia.controller import inputs
from aletheia.controller.binding import Binder, one_of
from aletheia.errors import UserError
from aletheia.study import sections
from aletheia.study.campaign_artifacts import campaign_artifacts, digest_of_paths
from aletheia.study.load import load_study
from aletheia.study.paths import Paths, run_name
from aletheia.study.schema import read_yaml
from conftest import ROOT, STUDY, edit, said, snakemake

RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
SPELLED = Paths("<results>", "<resources>")
# Parameters of paths that no wildcard of the rules has: a name, a number or an ending.
FREE = ("file", "table", "name", "number", "suffix")


def spelled_paths():
    """A pattern of every path that the library spells, with the rules' wildcards for its parameters."""
    patterns = []
    for _, method in inspect.getmembers(SPELLED, inspect.ismethod):
        if method.__name__.startswith("_"):
            continue
        path = method(**{name: f"{{{name}}}" for name in inspect.signature(method).parameters})
        pattern = re.escape(path)
        for name in FREE:
            pattern = pattern.replace(re.escape(f"{{{name}}}"), "[^/]+")
        # A figure's files are declared by its name alone.
        patterns.append(re.sub(r"\\\.\[\^/\]\+$", r"(\\.[^/]+)?", pattern) if "fig" in path else pattern)
    return patterns


def literals(path):
    """The paths below the two trees that a file of rules has in quotes, without a sidecar's ending."""
    texts = re.findall(r'"(<(?:results|resources)>/[^"]*)"', path.read_text(encoding="utf-8"))
    return {text.replace("{{", "{").replace("}}", "}").removesuffix(".lineage.json") for text in texts}


def test_the_rules_patterns_are_the_librarys_paths():
    found, known = set().union(*(literals(path) for path in RULES)), spelled_paths()
    assert len(found) > 20
    assert [path for path in sorted(found) if not any(re.fullmatch(pattern, path) for pattern in known)] == []


def rule_blocks(text):
    """(lines of rules, other lines of Python), comments and blank lines left out; a loop's body belongs to its rule."""
    inside, rules, others = False, [], []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        starts = re.match(r"\s*(rule|checkpoint|use rule)\b.*:\s*$|\s*use rule ", line)
        if starts:
            inside, indent = True, len(line) - len(line.lstrip())
            rules.append([])
        elif inside and len(line) - len(line.lstrip()) <= indent:
            inside = False
        (rules[-1] if inside else others).append(line)
    return rules, others


def test_the_rules_hold_little_python():
    blocks = {path.name: rule_blocks(path.read_text(encoding="utf-8")) for path in RULES}
    assert sum(len(others) for _, others in blocks.values()) <= 250
    longest = max((len(rule), name, rule[0].strip()) for name, (rules, _) in blocks.items() for rule in rules)
    assert longest[0] <= 36, longest
    assert sum(len(rules) for rules, _ in blocks.values()) > 20


# Functions of the study


@pytest.fixture(scope="module")
def tiny():
    return load_study(read_yaml(ROOT / STUDY[1]))


def test_wildcards_are_bound_by_name_and_seeds_are_numbers(tiny):
    bind = Binder(tiny, SPELLED)
    asked = []

    def function(study, paths, model, seed, *, which="x"):
        asked.append((study is tiny, paths is SPELLED, model, seed, which))
        return "found"

    wildcards = SimpleNamespace(model="tiny-llama", seed="1", arm="std")
    assert bind(function)(wildcards) == "found"
    assert asked == [(True, True, "tiny-llama", 1, "x")]


def test_a_mistake_is_snakemakes_error(tiny):
    wildcards = SimpleNamespace(model="tiny-llama", arm="ale", seed="99")
    with pytest.raises(WorkflowError, match=r"^tiny-llama/ale/seed99: expected a run of some campaign \(that arm has"):
        Binder(tiny, SPELLED)(sections.arm)(wildcards)
    with pytest.raises(UserError):
        sections.arm(tiny, "tiny-llama", "ale", 99)


def test_patterns_of_names():
    assert one_of(["smollm2-135m", "a.b"]) == r"smollm2\-135m|a\.b"
    assert not re.fullmatch(one_of([]), "")


def test_names_of_runs():
    assert (run_name("std", 3), run_name("base", None)) == ("std/seed3", "base")


def test_a_run_has_just_the_inputs_that_it_needs(tiny):
    key = ("tiny-llama", "std", 1)
    assert inputs.probe(tiny, SPELLED, *key) == inputs.selection(tiny, SPELLED, *key) == []
    key = ("tiny-llama", "ale", 1)
    assert inputs.probe(tiny, SPELLED, *key) == "<results>/probe/tiny-llama/seed1.json"
    assert inputs.selection(tiny, SPELLED, *key) == "<results>/select/tiny-llama/ale/seed1.json"
    assert inputs.layers_of_model(tiny, SPELLED, *key) == []
    assert not any(inputs.deciding(tiny, SPELLED, *key).values())
    assert inputs.evaluated_run(SPELLED, "tiny-llama", "base") == []
    assert inputs.evaluated_run(SPELLED, "m", "ale/seed1") == "<results>/train/m/ale/seed1/run.json"


def test_what_decides_no_result_is_in_no_section(tiny):
    section = sections.training(tiny, "tiny-llama", "std", 1)
    left_out = set(tiny.run("tiny-llama", "std", 1).settings["training"]) - set(section)
    assert left_out == {*sections.INDECISIVE_KEYS, "epochs"}  # steps are stated


# Aggregate reads what it declares


def test_what_is_declared_is_what_is_read(tiny):
    paths = Paths()
    assert inputs.ledger_artifacts(tiny, paths) == [
        path.as_posix() for path in campaign_artifacts(tiny.campaign_index(), paths).paths
    ]
    assert len(set(inputs.ledger_artifacts(tiny, paths))) == len(inputs.ledger_artifacts(tiny, paths)) > 30


def test_the_order_of_paths_is_none_of_their_digest():
    assert digest_of_paths(["b", "a"]) == digest_of_paths(["a", "b"]) != digest_of_paths(["a"])


@pytest.mark.slow
def test_an_input_that_is_read_and_not_declared_is_seen(study):
    edit(study / "workflow/scripts/aletheia/controller/inputs.py", "paths).paths]", "paths).paths[1:]]")
    done = snakemake(study, "results/aggregate/ledger.csv", *STUDY)
    assert done.returncode != 0
    log = (study / "logs/aggregate.log").read_text()
    assert "rule aggregate declares other inputs than the artifacts of its campaigns" in log, said(done)[-2000:]
