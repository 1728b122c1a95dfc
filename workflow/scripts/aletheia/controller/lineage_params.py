"""The lineage of an artifact as the params of its rule: Snakemake plans a job again where one of them differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aletheia.controller.binding import SIGNATURE, Binder
from aletheia.provenance.lineage import ROOT, code_facts, compact_json, file_digest


def lineage_params(
    bind: Binder, script: str, env: str, extra: Iterable[str] = (), **sections: Callable[..., Any]
) -> list[Any]:
    """Return one string for each module that a script reaches, for its environment, and for each settings section.

    Snakemake compares them as a set: its dry run then names just the module or section that differs.

    Parameters
    ----------
    bind
        Gives a section what the wildcards name.
    script
        File name below ``workflow/scripts``.
    env
        Name of the rule's environment file.
    extra
        Further files that decide what the script does (see :func:`aletheia.provenance.lineage.code_digests`).
    **sections
        Functions of the study, such as those of :mod:`aletheia.study.sections`.
    """
    environment = f"env:envs/{env}.yaml={file_digest(ROOT / 'envs' / f'{env}.yaml')}"
    settings = [_config_fact(name, bind(section)) for name, section in sections.items()]
    return [*code_facts(script, extra), environment, *settings]


def _config_fact(name: str, section: Callable[[Any], Any]) -> Callable[[Any], str]:
    def of(wildcards: Any) -> str:
        return f"config:{name}={compact_json(section(wildcards))}"

    of.__signature__ = SIGNATURE  # type: ignore[attr-defined]
    return of
