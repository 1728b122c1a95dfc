# What each job asks of the machine that runs it. Here that is all cores for a job that is timed; on a cluster the
# profile names a site, and its file says the rest. Resources trigger no reruns.
import os

from aletheia.sandbox.judge import memory_mb as judging_memory_mb
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes

try:
    SITE = read_site(config.get("site"))
except UserError as error:
    raise WorkflowError(str(error)) from None

WALLTIMES = WallTimes(STUDY, SITE)
if SITE:
    # Snakemake cuts threads to the cores of the machine that it runs on, and hands that number to every job. A controller
    # may have one, where a job pays for eight.
    workflow.global_resources["_cores"] = SITE.most_cores(STUDY.models[model]["gpus"] for model in STUDY.used_models())


def attempt_number(wildcards, attempt):
    """Which try of a job this is, for its artifacts to record."""
    return attempt


def gpus(wildcards):
    """GPUs of a job: those of the model that it loads, or of a job that asks for a number."""
    return STUDY.models[wildcards.model]["gpus"] if "model" in wildcards.keys() else int(wildcards.gpus)


def all_cores(wildcards):
    """A timed job takes every core that Snakemake has, so nothing runs beside it; on a cluster those of its GPUs."""
    return SITE.gpu["cores"] * gpus(wildcards) if SITE else workflow.cores or 1


def several_cores(wildcards):
    """The cores of a job that can use several and loads no model."""
    return SITE.cpu["cores"] if SITE else workflow.cores or 1


def allocation_minutes(wildcards):
    """Minutes of the allocation in which all arms of a model and a seed follow each other."""
    return WALLTIMES.allocation(wildcards.model, int(wildcards.seed))


def on_gpu(minutes, allocation=None, qos=None):
    """The resources of a rule that loads a model, or shares an allocation with one that does.

    The first two are functions of the wildcards: the minutes of the job, and of all jobs in its allocation. `turn` makes
    these follow each other, since a timed job must have no company; the profile counts it in each allocation by itself.
    """
    if SITE is None:
        return {"attempt": attempt_number}
    allocation = allocation or minutes
    gres = {"gres": lambda wildcards: f"gpu:{gpus(wildcards)}"}
    return {
        "attempt": attempt_number,
        "turn": 1,
        "nodes": 1,
        # Threads may be cut on the command line (--max-threads); this is not.
        "cpus_per_task": lambda wildcards: SITE.gpu["cores"] * gpus(wildcards),
        "mem_mb": lambda wildcards, attempt: SITE.memory_mb(gpus(wildcards), attempt),
        "runtime": lambda wildcards, attempt: SITE.scaled(minutes(wildcards), attempt, allocation(wildcards)),
        "qos": lambda wildcards, attempt: qos or SITE.qos(allocation(wildcards), attempt),
        **account(),
        **partition_of("gpu"),
        **(gres if SITE.gpu["request"] == "gres" else {"gpu": gpus}),
    }


def on_cpu(programs=False):
    """The resources of a rule that loads no model, or of the one that runs generated programs, one on each core."""
    if SITE is None:
        return {"attempt": attempt_number}
    return {
        "attempt": attempt_number,
        "nodes": 1,
        "cpus_per_task": SITE.cpu["cores"] if programs else 1,
        **account(),
        "mem_mb": judging_memory_mb(SITE.cpu["cores"]) if programs else SITE.cpu["memory_mb"],
        "runtime": SITE.cpu["minutes"],
        **partition_of("cpu"),
    }


def account():
    """The account that pays, from the environment, so that nobody's stands in the repository."""
    name = os.environ.get("ALETHEIA_ACCOUNT")
    # By a function, for Snakemake would take a bare 123456 for a number.
    return {"slurm_account": lambda wildcards: name} if name else {}


def partition_of(kind):
    """The partition of a kind of jobs, where the site names one."""
    name = getattr(SITE, kind)["partition"]
    return {"slurm_partition": name} if name else {}


def in_turn(minutes):
    """The resources of a rule whose jobs share an allocation with the arms of their model and seed."""
    return on_gpu(minutes, allocation_minutes)
