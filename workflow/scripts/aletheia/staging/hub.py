"""Downloads from the Hugging Face hub: resumed within a file, checked byte for byte, refused in one sentence.

The hub's own client drops a file that it could not finish, which is costly with 140 GB; so files are fetched here one
by one with the client's HTTP layer, which waits as long as the hub asks. This is plain HTTP, to the hub and wherever it
redirects, also for repositories in another store (Xet).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from aletheia.errors import UserError
from aletheia.provenance.artifacts import sha256_file
from aletheia.staging.disk_space import GIB, require_space
from aletheia.staging.repository_files import dataset_files, model_files

BUSY = (429, 500, 502, 503, 504)  # worth waiting for; 429 with the time that the hub asks for
PAUSES_SECONDS = (1, 2, 4, 8)  # seconds before a file that the hub has failed to serve (5xx) is asked for again
MAX_HTTP_BYTES = 50 * 10**9  # bytes of a file that the hub serves over plain HTTP
TRANSPORT = ("httpx", "httpx2", "httpcore", "httpcore2")  # raise errors of their own where a connection fails
PARTIAL_SUFFIX = ".part"
WEIGHTS = ".safetensors"


def hub_snapshot(
    source: Mapping[str, Any],
    folder: Path,
    *,
    repo_type: str,
    also: Sequence[str] = (),
    check: Callable[[Path, Sequence[str], dict[str, list[int]] | None], None] | None = None,
) -> tuple[str, list[str]]:
    """Download files of one hub repository at one commit into ``folder``; an interrupted download is resumed.

    Parameters
    ----------
    source
        ``id``, ``revision`` (None takes the newest commit), and for data ``member`` (see
        :func:`aletheia.staging.repository_files.dataset_files`).
    folder
        Where the files go.
    repo_type
        ``model`` or ``dataset``.
    also
        Further files of a data set.
    check
        Called before the first byte of a model's weights, to refuse what cannot be used: with the folder of its other
        files, the names of all, and each tensor's shape by its name (None where the hub did not serve the headers).

    Returns
    -------
    tuple
        The commit's hash, and the names of the files.

    Raises
    ------
    UserError
        No network, not found, gated, refused, too little space, or bytes that differ from the hub's own hash.
    """
    repo, identifier, revision = f"{repo_type} {source['id']}", source["id"], source.get("revision")
    with _explain_refusals(repo, revision):
        commit, entries = _listing(identifier, repo_type, revision)
        if repo_type == "model":
            names = model_files(list(entries), repo)
        else:
            names = [*dataset_files(list(entries), source.get("member"), f"{repo} at {commit}"), *also]
        unknown = [name for name in names if name not in entries]
        if unknown:
            raise UserError(f"{repo} at {commit} has no file {unknown[0]}; check fewshot.file in the registry")
        _refuse_large_files([entries[name] for name in names], repo)
        folder.mkdir(parents=True, exist_ok=True)
        require_space(sum(_missing_bytes(entries[name], folder) for name in names), folder, repo)
        address = {"repo_id": identifier, "repo_type": repo_type, "revision": commit}
        weights = [name for name in names if name.endswith(WEIGHTS)]
        for name in [name for name in names if name not in weights]:
            _fetch(address, entries[name], folder, repo)
        if check is not None and any(_missing_bytes(entries[name], folder) for name in weights):
            check(folder, names, _shapes(address, weights))
        for name in weights:
            _fetch(address, entries[name], folder, repo)
    for path in sorted(folder.rglob("*"), reverse=True):  # another revision's files
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return commit, names


def _listing(identifier: str, repo_type: str, revision: str | None) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return a repository's commit and its files by name, each with ``size`` and ``lfs.sha256`` or ``blobId``."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

    address = f"{constants.ENDPOINT}/api/{repo_type}s/{identifier}"
    address += "" if revision is None else f"/revision/{quote(revision, safe='')}"
    response = http_backoff(
        "GET",
        address,
        params={"blobs": "true"},
        headers=build_hf_headers(),
        retry_on_exceptions=(),
        retry_on_status_codes=BUSY,
    )
    hf_raise_for_status(response)
    try:
        listing = response.json()
    except ValueError:
        raise UserError(
            f"{address}: expected the hub's listing in JSON, found {response.headers.get('Content-Type')}; check "
            "HF_ENDPOINT, and whether the network asks to log in first"
        ) from None
    return listing["sha"], {entry["rfilename"]: entry for entry in listing.get("siblings") or []}


def _refuse_large_files(entries: Sequence[Mapping[str, Any]], repo: str) -> None:
    for entry in entries:
        if entry["size"] > MAX_HTTP_BYTES:
            raise UserError(
                f"{repo}: {entry['rfilename']} has {entry['size'] / GIB:.1f} GiB, and the hub serves files above "
                f"{MAX_HTTP_BYTES / GIB:.1f} GiB by its own client alone; take a repository with the weights in "
                "several files"
            )


def _partial(entry: Mapping[str, Any], folder: Path) -> Path:
    """Return the path of a file in progress, named by its content's hash: no download resumes another commit's file."""
    target = folder / entry["rfilename"]
    return target.with_name(f".{target.name}.{_digest(entry)[:16]}{PARTIAL_SUFFIX}")


def _missing_bytes(entry: Mapping[str, Any], folder: Path) -> int:
    """Return the number of a file's missing bytes, by sizes alone."""
    target, partial, size = folder / entry["rfilename"], _partial(entry, folder), entry["size"]
    if target.is_file() and target.stat().st_size == size:
        return 0
    return max(0, size - partial.stat().st_size) if partial.is_file() else size


def _shapes(address: Mapping[str, str], weights: Sequence[str]) -> dict[str, list[int]] | None:
    """Return the shape of each tensor of safetensors files, from their headers on the hub; None where that fails.

    The download, which tries several times, then reports the error.
    """
    from huggingface_hub import HfApi, errors

    shapes: dict[str, list[int]] = {}
    where = {key: address[key] for key in ("repo_id", "repo_type", "revision")}
    for name in weights:
        try:
            header = HfApi().parse_safetensors_file_metadata(filename=name, **where)
        except (errors.HfHubHTTPError, errors.SafetensorsParsingError):
            return None
        except Exception as error:
            if not _is_transport(error):
                raise
            return None
        shapes |= {tensor: facts.shape for tensor, facts in header.tensors.items()}
    return shapes


def _fetch(address: Mapping[str, str], entry: Mapping[str, Any], folder: Path, repo: str) -> None:
    """Download one file, from where an earlier call stopped; a whole one that is there is kept."""
    from huggingface_hub import hf_hub_url

    name, size = entry["rfilename"], entry["size"]
    target = folder / name
    if target.is_file() and _differs(target, entry) is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(entry, folder)
    with partial.open("ab") as file:
        if file.tell() > size:
            file.seek(0)
            file.truncate()
        start = file.tell()
        print(f"downloading {name} ({size / GIB:.2f} GiB{f', from byte {start} on' if start else ''})", flush=True)
        try:
            _transfer(hf_hub_url(filename=name, **address), file, size)
        except Exception as error:
            if not file.tell() or not _is_transport(error):
                raise
            raise UserError(
                f"{repo}: the transfer of {name} broke off after {file.tell()} of {size} bytes ({_reason(error)}); "
                "run again, and it goes on from there"
            ) from None
    expected = _differs(partial, entry)
    if expected:
        partial.unlink()
        raise UserError(f"{repo}: {name} differs from the hub's {expected}; run again to fetch it anew")
    partial.replace(target)


def _transfer(url: str, file: BinaryIO, size: int) -> None:
    """Append the missing bytes of a file; retry where the hub fails, since its client retries at a 429 alone."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    for pause in (*PAUSES_SECONDS, None):
        try:
            return http_get(url, file, resume_size=file.tell(), headers=build_hf_headers(), expected_size=size)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if pause is None or status == 429 or status not in BUSY:
                raise
            print(f"the hub fails ({status}); asking again in {pause} s", flush=True)
        time.sleep(pause)
    return None


def _digest(entry: Mapping[str, Any]) -> str:
    return entry["lfs"]["sha256"] if entry.get("lfs") else entry["blobId"]


def _differs(path: Path, entry: Mapping[str, Any]) -> str | None:
    """Return the hub's hash of a file that has another one; None where the file has it.

    Large files have a sha256; small ones are in git, whose hash covers a header too.
    """
    digest = _digest(entry)
    if entry.get("lfs"):
        return None if sha256_file(path) == digest else f"sha256 {digest}"
    content = path.read_bytes()
    found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return None if found == digest else f"git hash {digest}"


def _is_transport(error: Exception) -> bool:
    """Tell whether a connection failed, or ended before the whole file had come (an OSError without a number)."""
    if type(error).__module__.split(".")[0] in TRANSPORT or isinstance(error, (ConnectionError, TimeoutError)):
        return True
    return type(error) is OSError and error.errno is None


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__


@contextlib.contextmanager
def _explain_refusals(repo: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's refusals into one sentence each."""
    from huggingface_hub import errors

    site = os.environ.get("HF_ENDPOINT") or "the Hugging Face hub"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{repo} is gated: open its page on {site} with your account, accept its terms, and set HF_TOKEN "
            "to a token of that account (in the shell that runs snakemake), then run again"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{repo} was not found on {site}; check the id in the registry, or set HF_TOKEN if it is private"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{repo} has no revision {revision!r} on {site}; check the revision in the registry (where it names "
            "none, an earlier staging took this one: delete NAME.lock.json and NAME.lineage.json to take the newest)"
        ) from None
    except errors.HfHubHTTPError as error:
        raise UserError(_refusal(repo, site, error.response.status_code)) from None
    except Exception as error:
        if not _is_transport(error):
            raise
        raise UserError(
            f"{repo} could not be downloaded, for {site} was not reached ({_reason(error)}); connect to the network "
            "(and unset HF_HUB_OFFLINE), or stage on a machine that is connected and copy resources/ over"
        ) from None


def _refusal(repo: str, site: str, status: int) -> str:
    """Return the sentence for a response with an error status."""
    if status == 401:
        return (
            f"{repo}: {site} does not accept the token in HF_TOKEN (401); set it to a valid one, or unset it for what "
            "is public, then run again"
        )
    if status == 429:
        return (
            f"{repo}: {site} serves no more for now (429, too many requests), not even after waiting; run again later, "
            "and it goes on with what is missing (with HF_TOKEN the limits are higher)"
        )
    if status in BUSY:
        return f"{repo}: {site} is out of order ({status}); run again later, and it goes on with what is missing"
    return f"{repo}: {site} refuses it ({status}); check the id in the registry, and what HF_TOKEN may read"
