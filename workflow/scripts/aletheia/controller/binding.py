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

# What Snakemake looks at before it calls a function. Without it, it works that out at each call, which is a twentieth
# of a large dry run.
SIGNATURE = inspect.signature(lambda wildcards: None)
NUMBERS = ("seed",)  # wildcards that are whole numbers


def one_of(names: Iterable[str]) -> str:
    """Return a wildcard's pattern of just these names; one that never matches where there is none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def model_with_arms(evaluated: Mapping[str, Iterable[str]]) -> str:
    """Return a model's pattern that matches just before the runs of some of its arms: ``MODEL/ARM/…`` in a path.

    Parameters
    ----------
    evaluated
        ``{model: arms}``, ``base`` for a base model.
    """
    return "|".join(f"{re.escape(model)}(?=/(?:{one_of(arms)})/)" for model, arms in evaluated.items()) or "(?!)"


class Binder:
    """Makes functions of the wildcards out of functions of the study.

    Parameters
    ----------
    study, paths
        What a function's parameters of these names get.
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
