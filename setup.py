"""Put the files that the workflow reads into a built package, below aletheia/project, placed as in a checkout.

All else is declared in pyproject.toml; setuptools takes no files from outside a package's folder there.
"""

import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DECLARED = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["aletheia"]["wheel"]


def project_files() -> list[str]:
    """Return the files, relative to the project."""
    paths = {path for pattern in DECLARED["files"] for path in Path().glob(pattern) if path.is_file()}
    return sorted(path.as_posix() for path in paths if path.suffix != ".pyc")


class WithProject(build_py):
    """Builds the library, and copies the project's files into it; an editable installation has them around it."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            for source, copy in zip(project_files(), self._copies(), strict=True):
                self.mkpath(str(Path(copy).parent))
                self.copy_file(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return the files that a build writes."""
        return super().get_outputs(include_bytecode) + ([] if self.editable_mode else self._copies())

    def get_source_files(self) -> list[str]:
        """Return the files that a build reads, so that a source distribution holds them."""
        return super().get_source_files() + project_files()

    def _copies(self) -> list[str]:
        return [str(Path(self.build_lib, "aletheia", "project", name)) for name in project_files()]


setup(cmdclass={"build_py": WithProject})
