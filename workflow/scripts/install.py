"""Install the project with all that it needs into the environment of this Python: by uv, or by pip where uv cannot.

Needs nothing but Python and pip. uv brings several packages at a time, in about half of pip's time, and asks the
package index that pip is set up for (``pip config list``); a variable of uv's own that is set already stays as it is.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping

WANTED = ["--constraint", "constraints.txt", "--editable", ".[study,dev]"]
PIP = [sys.executable, "-m", "pip", "--no-color", "--disable-pip-version-check"]
# pip's settings and uv's names for them. One that holds several values separates them by white space.
NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
# With this, uv takes the best version of all indexes, as pip does.
STRATEGY = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
SEPARATED_BY_COMMAS = ("UV_FIND_LINKS",)
# What pip says of a larger package, and before it unpacks them all.
TOLD = re.compile(r"^\s*(Downloading|Using cached|Processing) .*(MB|\.whl$)|^Installing collected")
# Of pip's sections, the later ones go before.
SECTIONS = ("global", "install", ":env:")


def pip_settings(listed: str) -> dict[str, str]:
    """Return ``{setting: value}`` of what ``pip config list`` prints, for installing."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        # A line of another form is none of a setting; without a setting uv may fail, and then pip installs.
        if section in found and value.startswith(("'", '"')):
            found[section][key] = str(ast.literal_eval(value))
    return {key: value for section in SECTIONS for key, value in found[section].items()}


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables for pip's settings."""
    found = {NAMES[key]: value.split() for key, value in settings.items() if key in NAMES}
    return STRATEGY | {
        name: ("," if name in SEPARATED_BY_COMMAS else " ").join(values) for name, values in found.items()
    }


def by_uv() -> bool:
    """Install by uv; return whether it did."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    pinned = ["--quiet", "--constraint", "constraints.txt", "uv"]
    if subprocess.run([*PIP, "install", *pinned], check=False).returncode:
        return False
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    environment = {**uv_environment(pip_settings(listed)), **os.environ}
    done = subprocess.run([*command, "--compile-bytecode", *WANTED], env=environment, check=False)
    return done.returncode == 0


def by_pip() -> int:
    """Install by pip; return its exit status."""
    command = [*PIP, "install", "--progress-bar", "off", *WANTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if TOLD.search(line):
                print(line[:100].rstrip(), flush=True)
    return process.returncode


def main() -> int:
    """Install; return the exit status."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if by_uv():
        return 0
    print("uv could not install this (see above); pip tries, which takes three to ten minutes", flush=True)
    return by_pip()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
