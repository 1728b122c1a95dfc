"""Where staged things come from: wheels of a package index, and the Hugging Face hub."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aletheia.artifacts import sha256_file
from aletheia.errors import UserError

# What pip prints where it reaches no index, or (silently, with retries off) none that has the package.
NO_NETWORK = re.compile(
    r"Retrying|NewConnectionError|NameResolution|Temporary failure|ConnectTimeout|ReadTimeout|Max retries"
    r"|Network is unreachable|Connection refused|ProxyError|from versions: none"
)
SHARD = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
# Tokenizer and configuration in every form that loads without running the repository's code.
TEXT_FILE = re.compile(r".+\.json|tokenizer.*\.model|spiece\.model|merges\.txt|vocab\.txt|.+\.jinja")
UNWANTED = re.compile(r".*\.index\.json|training_args\.json|.*consolidated.*|params\.json")


def wheel(source: dict[str, Any], downloads: Path, scratch: Path) -> Path:
    """Return a package's wheel, from ``downloads`` or fetched with pip and kept there.

    pip runs as the user has configured it: index, proxy and certificates are theirs.

    Parameters
    ----------
    source
        ``package``, ``version`` and the wheel's ``sha256``.
    downloads
        Folder of wheels that are already here; one put there by hand serves a machine without a network.
    scratch
        A folder on the same disk, for the download until its hash is checked.

    Raises
    ------
    UserError
        Without a network, for an unknown package, and where the sha256 differs.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    stem = f"{re.sub(r'[-_.]+', '_', source['package'])}-{source['version']}-"
    for path in sorted(downloads.glob(f"{stem}*.whl")):
        if sha256_file(path) == source["sha256"]:
            return path
    _pip_download(source, scratch, downloads, stem)
    fetched = next(scratch.glob("*.whl"))
    found = sha256_file(fetched)
    if found != source["sha256"]:
        raise UserError(
            f"{fetched.name}: expected sha256 {source['sha256']}, found {found}; the package index serves "
            "another file than the registry names, so check the registry's version and sha256 before "
            "trusting it"
        )
    return fetched.replace(downloads / fetched.name)


def _pip_download(source: dict[str, Any], folder: Path, downloads: Path, stem: str) -> None:
    wanted = f"{source['package']}=={source['version']}"
    print(f"downloading {wanted}", flush=True)
    options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode == 0:
        return
    if "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, "No space left on device", str(downloads))
    by_hand = f"or put {stem}….whl (sha256 {source['sha256']}) into {downloads} and run again"
    if "No module named pip" in done.stderr:
        raise UserError(f"{wanted} is fetched with pip, which {sys.executable} lacks; install pip there, {by_hand}")
    if NO_NETWORK.search(done.stderr):
        raise UserError(
            f"{wanted} could not be downloaded, for pip reached no package index that has it; connect to the network "
            f"or set pip's index (pip config set global.index-url …), {by_hand}"
        )
    last = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), done.stderr.strip())
    raise UserError(f"{wanted} could not be downloaded (pip: {last.strip()}); check the registry's entry, {by_hand}")


def extract(archive: Path, member: str, target: Path) -> Path:
    """Copy one member of a wheel to the file ``target``.

    Raises
    ------
    UserError
        When the archive has no such member.
    """
    with zipfile.ZipFile(archive) as opened:
        try:
            content = opened.open(member)
        except KeyError:
            raise UserError(
                f"{archive.name}: expected a member {member!r} and found none; check the registry's entry"
            ) from None
        with content, target.open("wb") as out:
            shutil.copyfileobj(content, out)
    return target


@contextlib.contextmanager
def _explained(what: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's refusals into one sentence each."""
    from huggingface_hub import errors

    site = os.environ.get("HF_ENDPOINT") or "the Hugging Face hub"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{what} is gated: open its page on {site} with your account, accept its terms, and set HF_TOKEN "
            "to a token of that account (in the shell that runs snakemake), then run again"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{what} was not found on {site}; check the id in the registry, or set HF_TOKEN if it is private"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{what} has no revision {revision!r} on {site}; check the revision in the registry") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UserError(_unreachable(what, site, error)) from None
    except Exception as error:
        # The hub's client raises its HTTP library's own errors where a connection fails.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore") and not isinstance(
            error, (ConnectionError, TimeoutError)
        ):
            raise
        raise UserError(_unreachable(what, site, error)) from None


def _unreachable(what: str, site: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    return (
        f"{what} could not be downloaded, for {site} was not reached ({reason}); connect to the network (and "
        "unset HF_HUB_OFFLINE), or stage on a machine that is connected and copy resources/ over"
    )


def model_files(names: Sequence[str], what: str) -> list[str]:
    """Return the files of a model repository to take: safetensors, tokenizer, configuration, no folders.

    Raises
    ------
    UserError
        When there are no safetensors weights: pickles run code on loading and are never taken.
    """
    weights = [name for name in names if SHARD.fullmatch(name)]
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    if not weights:
        pickles = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        has = f"only pickled weights ({pickles[0]}), which may run code when loaded" if pickles else "no weights"
        raise UserError(
            f"{what} has {has}; expected model.safetensors or its shards, so choose a revision that has them "
            "(on the hub often refs/pr/N) or convert the weights to safetensors first"
        )
    texts = [n for n in names if TEXT_FILE.fullmatch(n) and not UNWANTED.fullmatch(n) and "/" not in n]
    return sorted({*weights, *texts})


def hub_snapshot(source: dict[str, Any], folder: Path, *, repo_type: str, also: Sequence[str] = ()) -> str:
    """Download files of one hub repository at one commit into ``folder``; an interrupted download goes on.

    Parameters
    ----------
    source
        ``id``, ``revision`` (None resolves the newest commit, once), and for data ``member``.
    folder
        Where the files go.
    repo_type
        ``model`` or ``dataset``.
    also
        Further files of a data set.

    Returns
    -------
    str
        The commit's hash.

    Raises
    ------
    UserError
        No network, not found, gated, too little space, or bytes that differ from the hub's own sha256.
    """
    from huggingface_hub import HfApi, snapshot_download

    what, revision = f"{repo_type} {source['id']}", source.get("revision")
    with _explained(what, revision):
        info = HfApi().repo_info(source["id"], repo_type=repo_type, revision=revision, files_metadata=True)
        entries = {entry.rfilename: entry for entry in info.siblings or []}
        names = model_files(list(entries), what) if repo_type == "model" else [source["member"], *also]
        unknown = [name for name in names if name not in entries]
        if unknown:
            key = "fewshot.file" if unknown[0] in also else "source.member"
            raise UserError(f"{what} at {info.sha} has no file {unknown[0]}; check {key} in the registry")
        _require_space(sum(entries[name].size or 0 for name in names), folder, what)
        snapshot_download(
            source["id"], repo_type=repo_type, revision=info.sha, local_dir=folder, allow_patterns=list(names)
        )
    for name in names:
        lfs = entries[name].lfs
        if lfs is not None and sha256_file(folder / name) != lfs.sha256:
            (folder / name).unlink()
            raise UserError(f"{what}: {name} differs from the hub's sha256 {lfs.sha256}; run again to fetch it anew")
    for path in sorted(folder.rglob("*"), reverse=True):  # the client's own bookkeeping, another revision's files
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return info.sha


def _require_space(wanted: int, folder: Path, what: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if wanted - there > free:
        raise UserError(
            f"{what} needs {wanted / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f} GiB free; free some "
            "space or put resources/ on another disk"
        )
