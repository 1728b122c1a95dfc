"""What a reader is told exists: pages, files, names in the code, and every command, which is planned where it can be.

A command that needs what a test has not says so at its end (``# needs a cluster``). It is held against scripts,
options, targets and profiles like any other; only its jobs are not planned.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import aletheia
from aletheia.study.schema import section_keys
from conftest import ROOT, copy_project, edit, said, snakemake

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "profiles").glob("*/README.md")),
    ROOT / "config" / "published" / "README.md",
]
NEEDS = re.compile(r"needs (a cluster|a GPU|the hub|a network|root|an hour|the archive)")
LANGUAGES = {"bash", "python", "yaml", "text"}
RULES = {
    name
    for path in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"))
    for name in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
}
# Programs of the system and of clusters, which the project does not bring.
OUTSIDE = {"cd", "export", "git", "sbatch", "sha256sum"}
ASSIGNMENT = re.compile(r"[A-Z_]+=")
# A path of the project in the text, without what stands for a name (NAME, MODEL, …) or for several.
PATH = re.compile(r"`((?:benchmarks|config|docs|envs|examples|profiles|rules|tests|workflow)/[a-z0-9_./-]+)`")
SETTING = re.compile(
    r"`((?:adapter|encoding|evaluation|interleaving|probe|stability|training)(?:\.[a-z_]\w*)+)(?:: [^`]+)?`"
)
DOTTED = re.compile(r"`(aletheia(?:\.[a-z_]\w*)+(?:\.\w+)?)`")


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: Path
    words: tuple[str, ...]
    needs: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {' '.join(self.words)}"


def fences(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: (language, text)."""
    text = page.read_text(encoding="utf-8")
    return [(found[1], found[2]) for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def commands_of(page: Path, text: str) -> list[Command]:
    """The commands of shell text, each call of a line by itself."""
    commands = []
    for line in text.splitlines():
        needs = NEEDS.search(line.partition(" # ")[2])
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if word not in ("&&", ";", "|"):
                words.append(word)
            elif words:
                commands.append(Command(page, tuple(words), needs and needs[1]))
                words = []
    return commands


COMMANDS = [
    command
    for page in PAGES
    for language, text in fences(page)
    if language == "bash"
    for command in commands_of(page, text)
]
# In a sentence or a table, where the project's own programs are called whole.
INLINE = [
    command
    for page in PAGES
    for text in re.findall(
        r"`((?:make|snakemake|aletheia \w+|\.venv/bin/\S+)\s[^`…]+)`", page.read_text(encoding="utf-8")
    )
    for command in commands_of(page, " ".join(text.split()))
]


def examples(folder: Path) -> None:
    """Write the files of the pages' examples: blocks of YAML that begin with a file's name, and what they name."""
    for page in PAGES:
        for language, text in fences(page):
            name = re.match(r"# (\S+\.yaml)\n", text) if language == "yaml" else None
            if name:
                (folder / name[1]).parent.mkdir(exist_ok=True)
                (folder / name[1]).write_text(text, encoding="utf-8")
    default = (ROOT / "config" / "campaigns" / "default.yaml").read_text(encoding="utf-8")
    (folder / "my-campaign.yaml").write_text(default, encoding="utf-8")
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "models" / "mine" / "config.json").write_text("{}")
    rows = "".join(f'{{"instruction": "Say {n}.", "output": "{n}"}}\n' for n in range(300))
    (folder / "mine.jsonl").write_text(rows)


def named_examples() -> set[str]:
    """The files that the pages' examples write, and the one that they leave to the reader's."""
    texts = [text for page in PAGES for language, text in fences(page) if language == "yaml"]
    return {name[1] for text in texts if (name := re.match(r"# (\S+\.yaml)\n", text))} | {"my-campaign.yaml"}


@functools.cache
def snakemake_parser():
    from snakemake.cli import get_argument_parser

    return get_argument_parser()


def parsed(words: tuple[str, ...]):
    """What Snakemake's own parser makes of a call; an option that it does not know ends the test."""
    try:
        return snakemake_parser().parse_args(list(words))
    except SystemExit:
        raise AssertionError(f"snakemake does not take {' '.join(words)}") from None


@functools.cache
def help_of(script: str) -> str:
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(command: Command, *, options: bool = True) -> None:
    """Fail where a command names a program, script, option, target, profile or file that is not there.

    Parameters
    ----------
    options
        Whether to ask scripts for their options, which starts each.
    """
    words = [word.replace("$PWD/", "") for word in command.words]
    while ASSIGNMENT.match(words[0]):
        words = words[1:]
    program, *rest = words
    if program in (".venv/bin/snakemake", "snakemake"):
        check_snakemake(rest)
    elif program in (".venv/bin/aletheia", "aletheia"):
        check_aletheia(rest)
    elif program == "make":
        check_make(command, rest, options=options)
    elif program in (".venv/bin/python", "python"):
        check_script(rest, options=options)
    elif program == ".venv/bin/pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.findall(r"\.\[(\w+)\]", " ".join(rest))) <= set(extras)
        assert "--constraint" not in rest or (ROOT / rest[rest.index("--constraint") + 1]).is_file()
    elif program == "source":
        assert (ROOT / rest[0]).is_file()
    elif program.startswith(".venv/bin/"):
        assert (Path(sys.executable).parent / Path(program).name).is_file(), program
    else:
        assert program in OUTSIDE, f"{program}: no program of the project, and not among those of others"
        for text in [word for word in rest if word.startswith(".venv/bin/")]:
            check(Command(command.page, tuple(shlex.split(text)), command.needs), options=options)


def check_snakemake(words: list[str]) -> None:
    if words == ["--help"]:  # which ends the parser
        return
    asked = parsed(tuple(words))
    for profile in asked.profile or []:
        assert (ROOT / profile / "config.yaml").is_file() or profile == "profiles/YOURS", profile
    assert {target for target in asked.targets if "/" not in target} <= RULES
    for file in asked.configfile or []:
        assert (ROOT / file).is_file() or str(file) in {*named_examples(), "FILE"}, file


def check_aletheia(words: list[str]) -> None:
    from aletheia.commands.main import COMMANDS
    from aletheia.commands.main import parser as command_line

    assert words[0] in COMMANDS, words[0]
    if len(words) == 1:  # a command by its name, in a sentence
        return
    try:
        command_line(words[0]).parse_args(words)
    except SystemExit:
        raise AssertionError(f"aletheia does not take {' '.join(words)}") from None


OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")


@functools.cache
def recipe(*words: str) -> str:
    """What make would run."""
    # What `make test ARGS=…` hands down to the programs that it starts is not meant for these.
    own = {name: value for name, value in os.environ.items() if name not in ("ARGS", *OF_MAKE)}
    # As if the environment were there: its own recipe is no part of the target's.
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", *words],
        cwd=ROOT,
        env=own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_make(command: Command, words: list[str], *, options: bool) -> None:
    for line in recipe(*words).splitlines():
        if re.match(r"\.venv/bin/(python|snakemake) ", line) and "$(" not in line:
            check(Command(command.page, tuple(shlex.split(line))), options=options)


def check_script(words: list[str], *, options: bool) -> None:
    script, *rest = words
    if script == "-m":  # a module of the environment
        return
    assert (ROOT / script).is_file(), script
    for option in [word for word in rest if word.startswith("--")] if options else []:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", help_of(script)), f"{script} has no {option}"


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    if page.name != "CHANGELOG.md":  # what an entry names may have gone since
        assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_first():
    reached, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
            pending += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert set(PAGES) - reached == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_are_of_a_known_kind(page):
    text = page.read_text(encoding="utf-8")
    assert {language for language, _ in fences(page)} <= LANGUAGES
    # Indented blocks would be read as text by the tests, and as commands by people.
    assert re.findall(r"\n\n    \S.*", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)) == []
    for language, block in fences(page):
        if language == "yaml":
            assert yaml.safe_load(block)
        elif language == "python":
            imported = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
            names = {name.name for node in imported if node.module == "aletheia" for name in node.names}
            assert names <= set(aletheia.__all__)


def defined(path: Path) -> set[str]:
    """The names that a module defines at its top."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def is_there(dotted: str) -> bool:
    path = ROOT / "workflow" / "scripts" / dotted.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent.with_suffix(".py")
    return module.is_file() and path.name in defined(module)


def test_names_of_the_library_are_there():
    named = {name for page in PAGES for name in DOTTED.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 20
    assert sorted(name for name in named if not is_there(name)) == []
    assert not is_there("aletheia.method.selection.no_such_function")


def test_settings_are_keys_of_a_campaign():
    named = {name for page in PAGES for name in SETTING.findall(page.read_text(encoding="utf-8"))}
    settings = [name.split(".") for name in named if not name.endswith(".py")]
    assert len(settings) > 5
    campaign = yaml.safe_load((ROOT / "workflow/schemas/campaign.schema.yaml").read_text())["properties"]
    # Those of a campaign alone, which no script reads, stand in the schema; those of benchmarks are put together.
    known = {(section, key) for section in campaign for key in campaign[section].get("properties", {})}
    assert [keys for keys in settings if tuple(keys) not in known and keys[-1] not in section_keys(keys[:-1])] == []
    assert "no_such_key" not in section_keys(["training"])


def test_commands_name_what_is_there():
    assert len(COMMANDS) > 40
    for command in [*COMMANDS, *INLINE]:
        try:
            check(command, options=False)
        except AssertionError as error:
            pytest.fail(f"{command}: {error}")


@pytest.mark.slow
def test_commands_name_options_of_their_scripts():
    for command in [*COMMANDS, *INLINE]:
        try:
            check(command)
        except AssertionError as error:
            pytest.fail(f"{command}: {error}")


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate --all",
        "aletheia no-such-command",
        ".venv/bin/aletheia fit models/mine mine.jsonl --out fitted --no-such-option",
        "make no_such_target",
        ".venv/bin/snakemake --no-such-option",
        ".venv/bin/snakemake --configfile no/such.yaml",
        ".venv/bin/snakemake no_such_target --profile profiles/leonardo   # needs a cluster",
        ".venv/bin/snakemake --profile profiles/none",
        ".venv/bin/python workflow/scripts/no_such.py",
        ".venv/bin/python workflow/scripts/verify.py --no-such-option",
        "make estimate ARGS=--no-such-option",
        ".venv/bin/no-such-program",
        "source profiles/leonardo/no_such.sh",
        'sbatch --wrap "$PWD/.venv/bin/snakemake --no-such-option"   # needs a cluster',
    ],
)
def test_a_wrong_command_is_found(line):
    (command,) = commands_of(ROOT / "README.md", line)
    with pytest.raises(AssertionError):
        check(command)


def dry_runs() -> dict[tuple[str, ...], list[str]]:
    """{options: targets} of the calls of Snakemake that a test can plan, those with equal options together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for command in COMMANDS:
        if command.words[0] == ".venv/bin/snakemake" and not command.needs:
            asked = parsed(command.words[1:])
            options = tuple(str(file) for file in asked.configfile or [])
            groups.setdefault(options, []).extend(asked.targets or ["all"])
    return groups


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("docs") / "project")
    examples(folder)
    return folder


@pytest.mark.slow
def test_every_call_of_snakemake_can_be_planned(project):
    groups = dry_runs()
    assert {(), ("my-study.yaml",), ("mine/config.yaml",), ("config/paper.yaml",)} <= set(groups)
    for files, targets in groups.items():
        done = snakemake(project, "-n", *dict.fromkeys(targets), *(["--configfile", *files] if files else []))
        assert done.returncode == 0, f"{files} {targets}: {said(done)[-2000:]}"
        if files == ("config/paper.yaml",):
            planned = re.search(r"^total +(\d+)$", said(done), re.MULTILINE)
            told = re.search(r"its (\d+) jobs", (ROOT / "docs" / "campaigns.md").read_text(encoding="utf-8"))
            assert planned[1] == told[1]


@pytest.mark.slow
def test_a_call_with_a_wrong_target_cannot_be_planned(project):
    assert snakemake(project, "-n", "results/figures/fig9.pdf").returncode != 0


@pytest.mark.slow
def test_the_practitioners_campaign_is_read_as_it_stands(project):
    """A key of the example that the schema does not know is one sentence."""
    edit(project / "mine" / "campaign.yaml", "encoding:", "encodings:")
    done = snakemake(project, "-n", "--configfile", "mine/config.yaml")
    edit(project / "mine" / "campaign.yaml", "encodings:", "encoding:")
    assert done.returncode != 0
    assert "did you mean 'encoding'?" in said(done)
