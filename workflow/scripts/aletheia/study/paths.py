"""The path of each artifact of a study, spelled once.

The rules have literal patterns of the same paths; a test compares both. This module imports nothing, so that a step
that uses it depends on no further code.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE = "base"


def run_name(arm: str, seed: int | str | None) -> str:
    """Return the name of a model's run in paths: ``ARM/seedN``, or ``base`` for the model without an adapter."""
    return BASE if arm == BASE else f"{arm}/seed{seed}"


@dataclass(frozen=True)
class Paths:
    """The files of a study.

    Attributes
    ----------
    results, resources
        Its two trees; ``<results>`` and ``<resources>`` in rules, where Snakemake puts them in.
    """

    results: str = "results"
    resources: str = "resources"

    def model_lock(self, model: str) -> str:
        """Return the lock of a staged model."""
        return f"{self.resources}/models/{model}.lock.json"

    def data_lock(self, data: str) -> str:
        """Return the lock of a staged data set."""
        return f"{self.resources}/data/{data}.lock.json"

    def tokens(self, model: str) -> str:
        """Return the table of a model's training data and held-out rows as token ids."""
        return f"{self.results}/tokens/{model}.safetensors"

    def precision(self, model: str) -> str:
        """Return the measured choice of precision of a model with ``dtype: auto``."""
        return f"{self.results}/precision/{model}.json"

    def batches(self, model: str, seed: int | str) -> str:
        """Return the plan of batches that all arms of a model and a seed read."""
        return f"{self.results}/batches/{model}/seed{seed}.json"

    def probe(self, model: str, seed: int | str) -> str:
        """Return the probe of a model and a seed."""
        return f"{self.results}/probe/{model}/seed{seed}.json"

    def updates(self, model: str, seed: int | str) -> str:
        """Return the probe by a few steps of training of a model and a seed."""
        return f"{self.results}/updates/{model}/seed{seed}.json"

    def selection(self, model: str, arm: str, seed: int | str) -> str:
        """Return the layers that an arm selects."""
        return f"{self.results}/select/{model}/{arm}/seed{seed}.json"

    def run(self, model: str, arm: str, seed: int | str) -> str:
        """Return the artifact of a training run."""
        return f"{self.results}/train/{model}/{arm}/seed{seed}/run.json"

    def adapter(self, model: str, arm: str, seed: int | str) -> str:
        """Return the folder of a run's adapter."""
        return f"{self.results}/train/{model}/{arm}/seed{seed}/adapter"

    def evaluation(self, model: str, run: str, file: str) -> str:
        """Return a file of the evaluations of a run (``ARM/seedN``), or of the base model (``base``)."""
        return f"{self.results}/evaluate/{model}/{run}/{file}"

    def aggregate_table(self, table: str) -> str:
        """Return a table that aggregate writes: ``ledger.csv`` and those made of it."""
        return f"{self.results}/aggregate/{table}"

    def stats(self, file: str) -> str:
        """Return a file of the statistics: ``summary.json``, ``arms.csv``, ``FINDINGS.md`` or an analysis."""
        return f"{self.results}/stats/{file}"

    def table(self, number: int | str, suffix: str) -> str:
        """Return one of the paper's tables, or of the study's own (S1)."""
        return f"{self.results}/tables/table{number}.{suffix}"

    def figure(self, name: str, suffix: str) -> str:
        """Return one of the study's figures."""
        return f"{self.results}/figures/{name}.{suffix}"

    def stability_draw(self, model: str, seed: int | str) -> str:
        """Return the probe of one draw of batches."""
        return f"{self.results}/stability/{model}/seed{seed}.json"

    def stability(self, file: str) -> str:
        """Return a file of the probe's stability: ``summary.json`` or its figure."""
        return f"{self.results}/stability/{file}"

    def controls(self, file: str) -> str:
        """Return a file of the controls' answer: ``summary.json``, ``CONTROLS.md``, table S2 or figure S6."""
        return f"{self.results}/controls/{file}"

    def search(self, model: str, file: str) -> str:
        """Return a file of a model's search: the artifact of a rung, such as ``scan.json``, or ``recipe.yaml``."""
        return f"{self.results}/search/{model}/{file}"

    def search_report(self, file: str) -> str:
        """Return a file of the report of all searches: ``SEARCH.md``, table S3 or figure S7."""
        return f"{self.results}/search/{file}"

    def fit(self, file: str) -> str:
        """Return a file of the answer to one model and campaign: ``summary.json``, ``REPORT.md`` or its figure."""
        return f"{self.results}/fit/{file}"

    def replication(self, file: str) -> str:
        """Return a file of the replication report: ``summary.json``, a table, ``REPLICATION.md``, figure R1."""
        return f"{self.results}/replication/{file}"

    def pair(self, model: str, arm: str, seed: int | str) -> str:
        """Return the measurement of an arm in turns with the standard one."""
        return f"{self.results}/paired/{model}/{arm}/seed{seed}.json"

    def paired_summary(self) -> str:
        """Return the table of the arms that were timed in turns."""
        return f"{self.results}/paired/summary.csv"

    def attribution(self, model: str, seed: int | str) -> str:
        """Return the attribution of a model's training step: where its time goes."""
        return f"{self.results}/attribution/{model}/seed{seed}.json"

    def attribution_figure(self, suffix: str) -> str:
        """Return the figure of the attributions."""
        return f"{self.results}/attribution/figS3.{suffix}"

    def evidence(self) -> str:
        """Return the archive of a finished study."""
        return f"{self.results}/evidence/evidence.zip"

    def devices(self, gpus: int | str) -> str:
        """Return the list of the devices that a job of ``gpus`` GPUs saw."""
        return f"{self.results}/smoke/gpus{gpus}.txt"
