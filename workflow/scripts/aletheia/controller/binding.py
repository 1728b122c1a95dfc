"""Binds what a rule's wildcards name to plain functions of the study."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snakemake.exceptions import WorkflowError

from aletheia.errors import UserError
from aletheia.study.paths import Paths
from aletheia.study.study import Study

# Snakemake inspects a function's signature before each call, which takes a twentieth of a large dry run; it takes this
# one where a function has it.
SIGNATURE = inspect.signature(lambda wildcards: None)
NUMBERS = ("seed",)  # wildcards that are whole numbers


def one_of(names: Iterable[str]) -> str:
    """Return the pattern of a wildcard that has just these names; one that never matches where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def model_with_arms(evaluated: Mapping[str, Iterable[str]]) -> str:
    """Return a pattern of the wildcard ``model`` that matches only before given arms, in a path ``MODEL/ARM/…``.

    Parameters
    ----------
    evaluated
        ``{model: arms}``, ``base`` for a base model.
    """
    return "|".join(f"{re.escape(model)}(?=/(?:{one_of(arms)})/)" for model, arms in evaluated.items()) or "(?!)"


class Binder:
    """Turns functions of the study into functions of a rule's wildcards.

    Parameters
    ----------
    study, paths
        Passed to a function's parameters of these names.
    """

    def __init__(self, study: Study, paths: Paths) -> None:
        self._given = {"study": study, "paths": paths}

    def __call__(self, function: Callable[..., Any]) -> Callable[[Any], Any]:
        """Return a function of the wildcards alone.

        Parameters
        ----------
        function
            Its parameters without a default are named ``study``, ``paths`` or as wildcards of the rule (``model``,
            ``arm``, ``seed``, which is a whole number, …). Its :class:`aletheia.errors.UserError` becomes one of
            Snakemake's, which it prints without a traceback.
        """
        parameters = inspect.signature(function).parameters.values()
        names = [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]

        def of(wildcards: Any) -> Any:
            try:
                return function(**{name: self._value(name, wildcards) for name in names})
            except UserError as error:
                raise WorkflowError(str(error)) from None

        of.__signature__ = SIGNATURE  # type: ignore[attr-defined]
        return of

    def _value(self, name: str, wildcards: Any) -> Any:
        if name in self._given:
            return self._given[name]
        value = getattr(wildcards, name)
        return int(value) if name in NUMBERS else value
