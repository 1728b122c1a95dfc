"""Write the rules' environments (envs/NAME.yaml, .lock, .def) from pyproject.toml and constraints.txt, or check them.

The table [tool.aletheia.environments] names what each environment holds, constraints.txt its versions. The YAML is for
conda, the lock holds every package with its hash, the definition makes an Apptainer image from the lock.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aletheia.errors import UserError, run_main
from aletheia.provenance.lineage import ROOT

ENVS = ROOT / "envs"
MARK = "# Written by `make envs` from pyproject.toml and constraints.txt"
SUFFIXES = (".yaml", ".lock", ".def")
NEEDED, OPTIONAL = ("about", "pip"), ("conda", "debian", "versions", "platform")


@functools.cache
def table() -> dict[str, Any]:
    """Return ``[tool.aletheia]`` of pyproject.toml, checked.

    Raises
    ------
    UserError
        When an environment lacks a key, or has one that means nothing.
    """
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["aletheia"]
    for name, environment in found["environments"].items():
        keys = set(environment)
        if not {*NEEDED} <= keys <= {*NEEDED, *OPTIONAL}:
            raise UserError(
                f"pyproject.toml, tool.aletheia.environments.{name}: expected {' and '.join(NEEDED)}, perhaps "
                f"{', '.join(OPTIONAL)}, found {', '.join(sorted(keys)) or 'nothing'}"
            )
    return found


def packages(text: str) -> dict[str, str]:
    """Return ``{canonical name: version}`` of the lines ``NAME==VERSION`` of constraints.txt or a lock."""
    lines = (line.split("#")[0].split(" ")[0].strip() for line in text.splitlines())
    requirements = [Requirement(line) for line in lines if "==" in line]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


@functools.cache
def versions(name: str) -> dict[str, str]:
    """Return the version of each package that an environment may hold: constraints.txt, the table's torch, its own."""
    tested = packages((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    own = table()["environments"][name].get("versions", {})
    return (
        tested | {"torch": table()["torch"]} | {canonicalize_name(package): number for package, number in own.items()}
    )


def platform(name: str) -> str:
    """Return the platform that an environment's packages are for."""
    return table()["environments"][name].get("platform", table()["platform"])


def pins(name: str) -> list[str]:
    """Return the pins of an environment's own packages, ``NAME==VERSION`` in the table's spelling.

    Raises
    ------
    UserError
        When constraints.txt has no version of a package.
    """
    listed = sorted(table()["environments"][name]["pip"], key=str.lower)
    unknown = [package for package in listed if canonicalize_name(package) not in versions(name)]
    if unknown:
        raise UserError(
            f"pyproject.toml, tool.aletheia.environments.{name}: expected names that constraints.txt pins, found "
            f"{', '.join(unknown)}; add them there as NAME==VERSION"
        )
    return [f"{package}=={versions(name)[canonicalize_name(package)]}" for package in listed]


def yaml_text(name: str) -> str:
    """Return ``envs/NAME.yaml``: what conda makes the environment from."""
    environment = table()["environments"][name]
    conda = [f"python={table()['python']}", f"pip={table()['pip']}", *environment.get("conda", [])]
    lines = [f"# {environment['about']}", f"{MARK}.", "channels:", "  - conda-forge", "  - nodefaults", "dependencies:"]
    lines += [f"  - {package}" for package in conda]
    return "\n".join([*lines, "  - pip:", *(f"      - {pin}" for pin in pins(name))]) + "\n"


def def_text(name: str) -> str:
    """Return ``envs/NAME.def``: what Apptainer makes an image from."""
    environment = table()["environments"][name]
    # A lineage asks git for the commit.
    same = [package.split("=")[0] for package in environment.get("conda", [])]
    debian = " ".join(["git", *environment.get("debian", same)])
    gpus = " --nv" if "torch" in environment["pip"] else ""
    install = "python -m pip install --no-cache-dir --disable-pip-version-check"
    return f"""\
# {environment["about"]}
{MARK}. In the project's folder:
#   apptainer build {name}.sif envs/{name}.def
#   apptainer run{gpus} {name}.sif workflow/scripts/SCRIPT.py --help
Bootstrap: docker
From: {table()["image"]}

%files
    envs/{name}.lock /opt/aletheia/{name}.lock

%post
    apt-get update
    apt-get install --yes --no-install-recommends {debian}
    rm -rf /var/lib/apt/lists/*
    {install} pip=={table()["pip"]}
    {install} --no-deps --require-hashes --requirement /opt/aletheia/{name}.lock
    python -m pip check

%labels
    aletheia.environment {name}

%runscript
    exec python -s "$@"
"""


def lock_head(name: str) -> str:
    """Return the comment that leads ``envs/NAME.lock``."""
    return (
        f"# All that the {name} environment installs with pip, for Python {table()['python']} on "
        f"{platform(name)}.\n"
        f"{MARK}, resolved by uv.\n"
        f"# Install: python -m pip install --no-deps --require-hashes --requirement envs/{name}.lock\n"
    )


def compile_pins(*options: str, pins: list[str], platform: str, out: Path) -> None:
    """Let uv resolve ``pins`` into the file ``out``, whose own versions it prefers if it is there."""
    target = ["--python-version", table()["python"], "--python-platform", platform]
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *target, *options, "--output-file", str(out), "-"],
        input="\n".join(pins),
        cwd=out.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"uv could not resolve {' '.join(pins[:3])} …: {' '.join(done.stderr.split())}")


def lock_text(name: str) -> str:
    """Return ``envs/NAME.lock``: every package, with the sha256 of each file that fits the platform.

    uv writes hashes of all platforms into requirements, and those of one platform into a pylock.toml; a wheel where
    there is one, else the source.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints, resolved, hashed = (Path(folder) / part for part in ("c.txt", "resolved.txt", "pylock.toml"))
        constraints.write_text("".join(f"{n}=={v}\n" for n, v in versions(name).items()), encoding="utf-8")
        former = ENVS / f"{name}.lock"
        if former.is_file():
            pinned = packages(former.read_text(encoding="utf-8"))
            resolved.write_text("".join(f"{n}=={v}\n" for n, v in pinned.items()), encoding="utf-8")
        plain = ("--no-header", "--no-annotate", "--constraint", str(constraints))
        compile_pins(*plain, pins=pins(name), platform=platform(name), out=resolved)
        found = packages(resolved.read_text(encoding="utf-8"))
        exact = [f"{n}=={v}" for n, v in found.items()]
        compile_pins("--no-deps", pins=exact, platform=platform(name), out=hashed)
        locked = tomllib.loads(hashed.read_text(encoding="utf-8"))["packages"]
    lines = []
    for package in sorted(locked, key=lambda package: package["name"]):
        files = package.get("wheels") or [package["sdist"]]
        hashes = sorted(f"--hash=sha256:{file['hashes']['sha256']}" for file in files)
        lines.append(" \\\n    ".join([f"{package['name']}=={package['version']}", *hashes]))
    return lock_head(name) + "\n".join(lines) + "\n"


def lock_holds(name: str, text: str) -> bool:
    """Say, without a network, whether a lock fits the table: its head, the own packages, the versions."""
    locked = packages(text)
    own = packages("\n".join(pins(name)))
    agree = all(versions(name).get(package, version) == version for package, version in locked.items())
    return text.startswith(lock_head(name)) and own.items() <= locked.items() and agree


def leftovers() -> list[Path]:
    """Return the written files of environments that the table no longer has."""
    files = (path for path in ENVS.iterdir() if path.suffix in SUFFIXES and path.stem not in table()["environments"])
    return sorted(path for path in files if MARK in path.read_text(encoding="utf-8"))


def check(*, resolve: bool) -> list[str]:
    """Return the names of the files that differ from what would be written.

    Parameters
    ----------
    resolve
        Whether to resolve the locks anew, which needs a package index; else only :func:`lock_holds` is asked.
    """
    differ = leftovers()
    for name in table()["environments"]:
        files = {suffix: ENVS / f"{name}{suffix}" for suffix in SUFFIXES}
        text = {s: path.read_text(encoding="utf-8") if path.is_file() else "" for s, path in files.items()}
        fits = {".yaml": text[".yaml"] == yaml_text(name), ".def": text[".def"] == def_text(name)}
        fits[".lock"] = lock_holds(name, text[".lock"]) and (not resolve or text[".lock"] == lock_text(name))
        differ += [path for suffix, path in files.items() if not fits[suffix]]
    return sorted(path.relative_to(ROOT).as_posix() for path in differ)


def write() -> None:
    """Write every environment's files, all or none of one environment's; remove those of environments that are gone."""
    for name in table()["environments"]:
        texts = {".yaml": yaml_text(name), ".def": def_text(name), ".lock": lock_text(name)}
        for suffix, text in texts.items():
            (ENVS / f"{name}{suffix}").write_text(text, encoding="utf-8")
    for path in leftovers():
        path.unlink()


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say which files differ (no network)")
    parser.add_argument("--resolve", action="store_true", help="with --check: also resolve the locks anew")
    args = parser.parse_args()
    if args.resolve and not args.check:
        parser.error("--resolve goes with --check")
    if not args.check:
        write()
        return
    differ = check(resolve=args.resolve)
    if differ:
        raise UserError(f"{', '.join(differ)}: expected what pyproject.toml and constraints.txt say; run `make envs`")


if __name__ == "__main__":
    run_main(main)
