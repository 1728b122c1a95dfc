"""What the tests share: tiny models of several families, scripts run as a user runs them, the benchmarks' own files."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import warm_server
from aletheia.provenance.parsed_source import KEPT
from families import HYBRID, PAPER, SERVED, SIZE

# Fixtures that several files share.
pytest_plugins = ["damaged", "evaluations", "judging"]

# Two torch threads on a busy two-core machine are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Where it is set, every start compiles anew what pip has not compiled: this project's code, and all of an environment
# that uv made.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "workflow" / "scripts"
SUPPORT = ROOT / "tests" / "support"
STUDY = ("--configfile", "tests/study/config.yaml")
# Has the library's sources parsed, and what was found kept.
PARSE = "import sys; from aletheia.provenance import lineage; [lineage.code_digests(name) for name in sys.argv[1:]]"

# The least configurations of the paper's families; tests/support/families.py has all that are served.
FAMILIES = {name: family.settings for name, family in PAPER.items()}


# The files that take minutes, longest first: a worker that came to one of them last would keep the others waiting.
LONGEST = (
    *("test_slurm", "test_robustness", "test_rules_under_conda", "test_planted_forgetting", "test_parity"),
    *("test_verification", "test_evidence", "test_fit", "test_audit", "test_hub", "test_serving", "test_search"),
    *("test_runs", "test_probe", "test_reproducible", "test_staging", "test_workflow", "test_examples", "test_harness"),
    *("test_control_arms", "test_attacks", "test_campaign_keys", "test_interleaving", "test_scoring"),
    *("test_simulated_search", "test_epoch_runs", "test_trained_runs", "test_environment_files", "test_image_lines"),
    *("test_docs", "test_campaigns"),
)


def pytest_configure(config):
    """Start the server of forks and parse the library, once for all workers."""
    if not hasattr(config, "workerinput"):
        warm_server.start()
        subprocess.run(
            [sys.executable, "-c", PARSE, *(path.name for path in SCRIPTS.glob("*.py"))], check=True, cwd=SCRIPTS
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put the files that take longest first; what reads the finished study is slow, since that has to run before."""
    places = {name: place for place, name in enumerate(LONGEST)}
    for item in items:
        if "finished" in item.fixturenames:
            item.add_marker("slow")
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish():
    """Take what is there by now, a million objects of torch and the tests, out of every later search for garbage."""
    set_apart()


@pytest.fixture(scope="module", autouse=True)
def _set_apart():
    """Take what a file's tests imported and left out of such searches too.

    statsmodels asks for a whole one at each correction of p values, half a second late in a run of everything.
    """
    yield
    set_apart()


def set_apart():
    """Collect garbage, and never look again at what is left."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config):
    """Use two workers, for two cores, and a third where the jobs of the cluster wait: each collects for itself."""
    return 2 if config.option.markexpr == "not slow" else 3


def pytest_xdist_make_scheduler(config, log):
    """Give a file to one worker, and all files of tests/cluster to the same one: a machine has one SLURM at a time."""
    from xdist.scheduler import LoadFileScheduling

    class OneCluster(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "cluster" if file.startswith("tests/cluster/") else file

    return OneCluster(config, log)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


def tiny_model(family: str = "llama", seed: int = 0, **settings):
    """Return a tiny random model of a family, in evaluation mode; with settings of its configuration beside its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    own = SERVED[family].settings if family in SERVED else HYBRID
    config = AutoConfig.for_model(family, **{**own, **settings})
    return AutoModelForCausalLM.from_config(config).eval()


def longrope_model(window: int, *, long: float = 40.0):
    """Return a tiny Phi-3 whose rotary factors are others at all positions once a sequence is longer than a window."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    size = SIZE["hidden_size"] // SIZE["num_attention_heads"] // 2
    scaling = {"type": "longrope", "short_factor": [1.0] * size, "long_factor": [long] * size}
    settings = {**FAMILIES["phi3"], "max_position_embeddings": 256, "original_max_position_embeddings": window}
    # Rotary factors show in the scores of random weights only where these are not small.
    config = AutoConfig.for_model("phi3", **settings, rope_scaling=scaling, initializer_range=0.3)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="session")
def nf4_folder(tmp_path_factory):
    """Return a saved model whose widths 4-bit blocks divide."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {**FAMILIES["llama"], "hidden_size": 64, "intermediate_size": 128}
    folder = tmp_path_factory.mktemp("nf4")
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes)).save_pretrained(folder)
    return folder


def random_batch(sequences: int, tokens: int, seed: int, padding: int = 0) -> dict:
    """Return a batch of random tokens whose last ``padding`` positions are padding."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 96, (sequences, tokens), generator=generator)
    mask = torch.ones_like(ids)
    labels = ids.clone()
    if padding:
        ids[:, -padding:], mask[:, -padding:], labels[:, -padding:] = 0, 0, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def run_script(name: str, *arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the project's scripts in a process of its own, as a rule does."""
    return subprocess.run(
        [warm_server.LAUNCHER, "-s", str(SCRIPTS / name), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_project(target: Path) -> Path:
    """Copy the files that git tracks, and new ones that it does not ignore, as a fresh clone would have them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    bring_parsed(target)
    return target


def bring_parsed(project: Path) -> None:
    """Give a copy of the project what parsing the library gave; it is asked for by the sources' own hashes."""
    kept = project / KEPT.relative_to(ROOT)
    kept.parent.mkdir(exist_ok=True)
    shutil.copy2(KEPT, kept)


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Snakemake in a copy of the project."""
    return subprocess.run(
        [warm_server.LAUNCHER, "-s", str(Path(sys.executable).parent / "snakemake"), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Return a folder with the project and its tiny study, run once for all workers from a bare shell; only read it.

    Its name has spaces and a letter beyond ASCII, as users' folders do.
    """
    base = tmp_path_factory.getbasetemp()
    # Workers' folders stand beside each other; the first that comes runs the study, the others wait for it.
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder, done = shared / "é space" / "my project", shared / "finished.done"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run_tiny_study(copy_project(folder))
            done.touch()
    return folder


def run_tiny_study(folder: Path) -> None:
    """Run the tiny study in a copy of the project, as from a shell that has activated nothing."""
    # A test times nothing, so two jobs may run at a time.
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "snakemake"), *STUDY, "--max-threads", "1"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert ran.returncode == 0, said(ran)[-4000:]


@pytest.fixture
def study(finished, tmp_path):
    """Return a copy of the finished study in another place, whose files have other times: a clone, moved."""
    return copy_study(finished, tmp_path / "moved", copy_function=shutil.copy)


def copy_study(finished: Path, target: Path, *, records: bool = True, copy_function=shutil.copy2) -> Path:
    """Copy a finished study, with file times unless told otherwise, and with Snakemake's records unless told otherwise.

    What programs of other workers may just be writing there stays out: compiled modules.
    """
    left_out = ("__pycache__",) if records else ("__pycache__", ".snakemake")
    ignore = shutil.ignore_patterns(*left_out)
    shutil.copytree(finished, target, symlinks=True, ignore=ignore, copy_function=copy_function)
    bring_parsed(target)
    return target


def dry(folder, *arguments):
    """Return {rule: number of jobs} of a dry run, and all that it printed."""
    done = snakemake(folder, "-n", *STUDY, *arguments)
    text = said(done)
    assert done.returncode == 0, text[-3000:]
    table = text[text.index("Job stats") :].split("\n\n")[0] if "Job stats" in text else ""
    jobs = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
    jobs.pop("total", None)
    return jobs, text


def said(done):
    """All that a call printed: a dry run reports on standard output, a run on standard error."""
    return done.stdout + done.stderr


def sentences(done):
    """The sentences that a failed run ends with, each behind the name of its log."""
    return re.findall(r"^logs/\S+: (error: .*)$", said(done), flags=re.MULTILINE)


def append(path, text=None):
    """Add to a file: to a module a statement, to any other a comment."""
    with path.open("a", encoding="utf-8") as handle:
        handle.write(text or ("\nEDITED = True\n" if path.suffix == ".py" else "\n# edited\n"))


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Return a running SLURM of this module's own; another worker's module that has one goes first."""
    from slurm_cluster import Cluster, lacking

    if absent := lacking():
        missing(*absent)
    running = Cluster(tmp_path_factory.mktemp("slurm"))
    running.start(patience=3600)
    yield running
    running.stop()


@pytest.fixture
def small_disk():
    """Return a function that puts a folder on a disk of its own with so many bytes of room; returns what fills it."""
    if os.geteuid() != 0:
        missing("root, to mount a small disk", "run this test as root")
    mounted: list[Path] = []

    def mount(folder: Path, room: int) -> Path:
        kept = folder.with_name(f"{folder.name}.kept")
        folder.rename(kept)
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            missing(f"a mount of tmpfs ({done.stderr.strip()})", "run this test where root may mount")
        mounted.append(folder)
        shutil.copytree(kept, folder, dirs_exist_ok=True, symlinks=True)
        filler, space = folder / ".filler", os.statvfs(folder)
        filler.write_bytes(b"0" * (space.f_bavail * space.f_frsize - room))
        return filler

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def as_ordinary_user(*command: str) -> list[str]:
    """Return a command that root's way around file modes is closed to."""
    if os.geteuid() != 0:
        return list(command)
    if shutil.which("setpriv") is None:
        missing("setpriv (util-linux)", "install util-linux, or run this test as an ordinary user")
    drop = "-dac_override,-dac_read_search,-fowner"
    return ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}", *command]


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """Return the folder with the benchmarks' own files, or skip."""
    folder = os.environ.get("ALETHEIA_TEST_DATA", "")
    if not Path(folder).is_dir() or not folder:
        missing("the benchmarks' own files", "set ALETHEIA_TEST_DATA to a folder that has them")
    return Path(folder)


def missing(tool: str, remedy: str) -> None:
    """Skip a test whose tool is missing, with the reason; fail where ALETHEIA_REQUIRE=1 says that nothing may skip."""
    if os.environ.get("ALETHEIA_REQUIRE") == "1":
        pytest.fail(f"{tool} is missing, and ALETHEIA_REQUIRE=1; {remedy}")
    pytest.skip(f"{tool} is missing; {remedy}")
