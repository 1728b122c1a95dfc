"""The controller's checks before the first job: its folder, the results that are there, disk space, the cluster."""

from __future__ import annotations

import atexit
import fcntl
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from snakemake.exceptions import WorkflowError

from aletheia.cluster import limits, queue
from aletheia.cluster.site import Site
from aletheia.controller.fork_server import ForkServer
from aletheia.controller.targets import check_target
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.file_walk import require_folders
from aletheia.provenance.locking import without_locks
from aletheia.staging.disk_space import staging_space
from aletheia.staging.gated_models import require_token
from aletheia.study import results_tree
from aletheia.study.paths import Paths
from aletheia.study.study import Study

# The limit on submissions that Snakemake sets by itself, which no study comes near: jobs a second.
DEFAULT_LIMIT = (100, 1)


class Startup:
    """The checks of one run of Snakemake, and what it holds until it ends.

    Parameters
    ----------
    workflow
        Snakemake's.
    study, paths, site
        What it runs, and where.
    stand_ins
        Whether models of random weights take the places of the registry's.
    """

    def __init__(self, workflow: Any, study: Study, paths: Paths, site: Site | None, *, stand_ins: bool) -> None:
        self._workflow, self._study, self._site, self._stand_ins = workflow, study, site, stand_ins
        self._results, self._resources = paths.results, paths.resources
        self._locked: list[TextIO] = []  # as long as they are open
        self._fork_server = ForkServer()

    def watch(self) -> None:
        """Refuse folders that cannot be written, and say at a dry run's end whether a run would stop."""
        atexit.register(self._warn_of_other_study)
        try:
            require_folders(Path(".snakemake"), [Path(tree) for tree in (self._results, self._resources, "logs")])
        except UserError as error:
            raise WorkflowError(str(error)) from None

    def begin(self) -> None:
        """Do all that comes before the first job.

        Raises
        ------
        WorkflowError
            When the run must not start: another one runs here, results of another study stand there, a disk has no
            room, a token is missing, stand-ins would replace models, or the cluster would refuse a job.
        """
        try:
            self._lock_folder()
            self._claim_results()
            self._disable_scheduler_polling()
            self._check_stand_ins()
            self._check_downloads()
            self._check_cluster()
            if self._workflow.executor_plugin.name == "local":
                self._fork_server.start()
        except UserError as error:
            # Snakemake prints this without a traceback.
            raise WorkflowError(str(error)) from None

    def explain_target(self, target: str) -> None:
        """Stop at a target that the study does not make; Snakemake asks once it knows of no rule for it.

        Raises
        ------
        UserError
            In one sentence.
        """
        rules = [rule.name for rule in self._workflow.rules if not rule.has_wildcards()]
        check_target(target, self._study, results=self._results, resources=self._resources, rules=rules)

    def _warn_of_other_study(self) -> None:
        dag = self._workflow.dag
        # Of the jobs, those that a dry run has gone through are no longer planned.
        if not self._workflow.dryrun or dag is None or not self._write_results(dag.jobs):
            return
        try:
            other = results_tree.other_campaigns(self._results, self._study)
        except UserError as error:
            other = str(error)
        if other:
            print(f"\nnote: this is planned, but a run would stop at its start: {other}", file=sys.stderr)

    def _write_results(self, jobs: Iterable[Any]) -> bool:
        return any(output.startswith(f"{self._results}/") for job in jobs for output in job.output)

    def _claim_results(self) -> None:
        """Stop before a run would overwrite another study's results; record whose they are."""
        if not self._write_results(self._workflow.dag.needrun_jobs()):
            return
        other = results_tree.other_campaigns(self._results, self._study)
        if other:
            raise UserError(other)
        results_tree.record_campaigns(self._results, self._study)

    def _lock_folder(self) -> None:
        """Hold this folder's kernel lock until the controller ends, however it ends; stop where another one holds it.

        Runs whose arms are timed must have the machine to themselves: one controller a folder.
        """
        handle = open(".snakemake/controller.lock", "w")  # noqa: SIM115  open until the process ends
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another snakemake runs in this folder; wait for it, or stop it, and run this again"
            ) from None
        except OSError as error:
            raise without_locks(Path.cwd(), error) from None
        self._locked.append(handle)

    def _disable_scheduler_polling(self) -> None:
        """Let the scheduler look for jobs to run when a job ends, and not every second too.

        Because of its limit on submissions, each look while something waits schedules another look a second later
        (snakemake/scheduling/job_scheduler.py of 9.27), so that the looks multiply with every job that ends: tens a
        second in a long study, beside timed trainings. Only the default limit is lifted. Snakemake inside an allocation
        runs no hooks, so there they stay, for at most the few jobs of one group.
        """
        limit = self._workflow.scheduler.job_rate_limiter
        if limit and (limit.max_jobs, limit.timespan) == DEFAULT_LIMIT:
            self._workflow.scheduler.job_rate_limiter = None

    def _check_stand_ins(self) -> None:
        """Stop before stand-ins would replace models whose staging may have taken a day."""
        for model in self._study.used_models() if self._stand_ins else []:
            lock = Path(Paths(resources=self._resources).model_lock(model))
            kind = artifacts.payload(lock)["source"]["type"] if lock.is_file() else "random"
            if kind != "random":
                raise UserError(
                    f"{lock}: expected none, or a stand-in's, found a model of type {kind}; run a study of stand-ins "
                    "in a checkout of its own"
                )

    def _check_downloads(self) -> None:
        """Print the space that the models to be staged take; stop where there is too little, or a token is missing.

        Both are checked for all models before the first download begins.
        """
        jobs = self._workflow.dag.needrun_jobs()
        models = {
            job.wildcards.model: self._study.models[job.wildcards.model]
            for job in jobs
            if job.rule.name == "stage_model"
        }
        folder = Path(self._resources) / "models"
        require_token(models, folder)
        sentence = staging_space(models, folder)
        if sentence:
            print(sentence, file=sys.stderr)

    def _check_cluster(self) -> None:
        """Wait for the jobs that a killed controller left, and stop where the cluster would refuse one of ours.

        So no job is submitted twice.
        """
        here, submits = Path.cwd(), self._workflow.executor_plugin.name == "slurm"
        if self._site and not submits:
            raise UserError(
                "site: expected a profile that submits jobs to that cluster (--profile profiles/NAME), found a run on "
                "this machine, whose jobs would get the cores of a node there; leave site out"
            )
        # A run on this machine asks SLURM only in a folder from which jobs were submitted, for it may be down here.
        if (submits or Path(".snakemake/slurm_logs").is_dir()) and queue.wait_for_orphans(here):
            # Their results count, so everything is planned again.
            start_again()
        if submits:
            self._check_profile()
            sentences = limits.refusals(self._requests(), limits.read_cluster())
            if sentences:
                raise UserError("\n".join(sentences))
            threading.Thread(target=queue.watch_for_preemption, args=(here, start_again), daemon=True).start()

    def _check_profile(self) -> None:
        """Stop where the command line has replaced what the profile says, which would change what is timed."""
        if self._site is None:
            raise UserError(
                "site: expected the file of a cluster, found none; --config on the command line takes the place of the "
                "profile's, so add site=profiles/NAME/site.yaml to it"
            )
        if "turn" not in self._workflow.global_resources:
            raise UserError(
                "turn: expected turn=1 among the resources, found none; --resources on the command line takes the "
                "place of the profile's, so add turn=1 to it"
            )

    def _requests(self) -> list[limits.Request]:
        """Return the planned jobs' requests to the cluster, one for each allocation."""
        dag = self._workflow.dag
        planned = [job for job in dag.needrun_jobs() if not job.is_local]
        allocations = dict.fromkeys(dag.get_job_group(job) or job for job in planned)
        return [self._request(allocation) for allocation in allocations]

    def _request(self, allocation: Any) -> limits.Request:
        members = list(allocation) if allocation.is_group() else [allocation]
        names = " and ".join(dict.fromkeys(job.rule.name for job in members))
        wildcards = members[0].wildcards_dict
        which = " ".join(wildcards[key] for key in ("model", "seed") if key in wildcards)
        resources = allocation.resources
        keys = {"account": "slurm_account", "partition": "slurm_partition", "qos": "qos", "minutes": "runtime"}
        return limits.Request(
            job=f"{names} of {which}" if which else names,
            longest=self._site.longest if "turn" in resources.keys() else None,  # noqa: SIM118  Snakemake's own mapping
            **{name: resources.get(key) for name, key in keys.items()},
        )


def use_site_cores(workflow: Any, study: Study, site: Site) -> None:
    """Let jobs ask for the cores of a site's nodes.

    Snakemake cuts threads to the cores of the machine that it runs on (``global_resources["_cores"]`` of 9.27), and
    hands that number to every job. A controller may have one core, where a job requests eight.
    """
    gpus = [study.models[model]["gpus"] for model in study.used_models()]
    workflow.global_resources["_cores"] = site.most_cores(gpus)


def start_again() -> None:
    """Replace this controller by a new one with the same arguments."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
