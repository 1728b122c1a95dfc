# What the controller sees to before the first job and after the last: its folder, room for what is staged, the cluster,
# and the sentences that scripts ended with.
import atexit
import fcntl
import os
import shutil
import threading

from aletheia.provenance import artifacts
from aletheia.study import results_tree
from aletheia.cluster import limits
from aletheia.cluster import queue
from aletheia.provenance.file_walk import require_folders
from aletheia.provenance.locking import without_locks
from aletheia.controller.notes import NoteWatcher
from aletheia.staging.disk_space import staging_space
from aletheia.controller.targets import check_target
from aletheia.staging.gated_models import require_token

# Open files whose locks this controller holds.
HELD = []
# Steps whose logs may hold a note for the user.
NOTES = NoteWatcher([Path("logs") / step for step in ("stage", "precision", "batches", "train")], logger.warning)


def explain_target(target):
    """Stop at a target that the study does not make, in one sentence; Snakemake asks once it knows of no rule for it."""
    rules = [rule.name for rule in workflow.rules if not rule.has_wildcards()]
    check_target(target, STUDY, results=RESULTS, resources=RESOURCES, rules=rules)


def warn_of_other_study():
    """Say at the end of a dry run that a run would stop, since the results there are another study's."""
    # Of the jobs, those that a dry run has gone through are no longer planned.
    if not workflow.dryrun or workflow.dag is None or not write_results(workflow.dag.jobs):
        return
    try:
        other = results_tree.other_campaigns(RESULTS, STUDY)
    except UserError as error:
        other = str(error)
    if other:
        print(f"\nnote: this is planned, but a run would stop at its start: {other}", file=sys.stderr)


def write_results(jobs):
    """Whether some job writes below the results."""
    return any(output.startswith(f"{RESULTS}/") for job in jobs for output in job.output)


def hold_results():
    """Stop before a run would take the place of another study's results; write down whose they are."""
    if not write_results(workflow.dag.needrun_jobs()):
        return
    try:
        other = results_tree.other_campaigns(RESULTS, STUDY)
        if other is None:
            results_tree.record_campaigns(RESULTS, STUDY)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if other:
        raise WorkflowError(other)


if workflow.is_main_process:
    atexit.register(warn_of_other_study)
    try:
        require_folders(Path(".snakemake"), [Path(tree) for tree in (RESULTS, RESOURCES, "logs")])
    except UserError as error:
        raise WorkflowError(str(error)) from None


def hold_folder():
    """Hold this folder's kernel lock until the controller ends, however it ends; stop where another one holds it."""
    handle = open(".snakemake/controller.lock", "w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            "another snakemake runs in this folder; wait for it, or stop it, and run this again"
        ) from None
    except OSError as error:
        raise WorkflowError(str(without_locks(Path.cwd(), error))) from None
    HELD.append(handle)


def look_at_events_alone():
    """Let the scheduler look for what can run when a job ends, and not by the clock too.

    For the sake of a limit on submissions, each look while something waits asks for another one a second later, so that
    every job that ends adds looks that never cease: tens a second in a long study, beside trainings that are timed.
    Only the default limit is lifted, which no study here comes near. Snakemake inside an allocation runs no hooks, so
    there they stay, for at most the few jobs of one group.
    """
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def check_downloads():
    """Say how much room the models take that this run stages; stop where it is too little, or a token is missing."""
    planned = [job.wildcards.model for job in workflow.dag.needrun_jobs() if job.rule.name == "stage_model"]
    models = {model: STUDY.models[model] for model in planned}
    folder = Path(RESOURCES) / "models"
    try:
        require_token(models, folder)
        sentence = staging_space(models, folder)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if sentence:
        print(sentence, file=sys.stderr)


def check_stand_ins():
    """Stop before stand-ins would take the place of models that were staged, which may have cost a day."""
    folder = Path(RESOURCES) / "models"
    for model in STUDY.used_models() if config.get("stand_ins") else []:
        lock = folder / f"{model}.lock.json"
        try:
            kind = artifacts.payload(lock)["source"]["type"] if lock.is_file() else "random"
        except UserError as error:
            raise WorkflowError(str(error)) from None
        if kind != "random":
            raise WorkflowError(
                f"{lock}: expected none, or a stand-in's, found a model of type {kind}; run a study of stand-ins in a "
                "checkout of its own"
            )


def meet_cluster():
    """Wait for the jobs that a killed controller left, and stop where the cluster would refuse one of ours."""
    here, submits = Path.cwd(), workflow.executor_plugin.name == "slurm"
    if SITE and not submits:
        raise WorkflowError(
            "site: expected a profile that submits jobs to that cluster (--profile profiles/NAME), found a run on this "
            "machine, whose jobs would get the cores of a node there; leave site out"
        )
    try:
        # A run on this machine asks SLURM only in a folder from which jobs were submitted, for it may be down here.
        if (submits or Path(".snakemake/slurm_logs").is_dir()) and queue.wait_for_orphans(here):
            # What they have made counts, so everything is planned anew.
            start_again()
        if submits:
            check_profile()
            sentences = limits.refusals(requests(), limits.read_cluster())
            if sentences:
                raise WorkflowError("\n".join(sentences))
            threading.Thread(target=queue.watch_for_preemption, args=(here, start_again), daemon=True).start()
    except UserError as error:
        raise WorkflowError(str(error)) from None


def start_again():
    """Replace this controller by a new one with the same arguments."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def check_profile():
    """Stop where the command line has taken the place of what the profile says, which would change what is timed."""
    if SITE is None:
        raise WorkflowError(
            "site: expected the file of a cluster, found none; --config on the command line takes the place of the "
            "profile's, so add site=profiles/NAME/site.yaml to it"
        )
    if "turn" not in workflow.global_resources:
        raise WorkflowError(
            "turn: expected turn=1 among the resources, found none; --resources on the command line takes the place of "
            "the profile's, so add turn=1 to it"
        )


def requests():
    """What the planned jobs ask of the cluster; those of one allocation together."""
    planned = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    allocations = dict.fromkeys(workflow.dag.get_job_group(job) or job for job in planned)
    return [request_of(allocation) for allocation in allocations]


def request_of(allocation):
    """What one allocation asks of the cluster."""
    members = list(allocation) if allocation.is_group() else [allocation]
    names = " and ".join(dict.fromkeys(job.rule.name for job in members))
    wildcards = members[0].wildcards_dict
    which = " ".join(wildcards[key] for key in ("model", "seed") if key in wildcards)
    asked = allocation.resources
    keys = {"account": "slurm_account", "partition": "slurm_partition", "qos": "qos", "minutes": "runtime"}
    return limits.Request(
        job=f"{names} of {which}" if which else names,
        longest=SITE.longest if "turn" in asked.keys() else None,
        **{name: asked.get(key) for name, key in keys.items()},
    )


def failed_sentences(controller_logs):
    """The sentence that each failed job's log ends with, where its script knew what went wrong."""
    said = "\n".join(Path(path).read_text() for path in controller_logs)
    names = dict.fromkeys(re.findall(r"^ *log: (\S+) \(check log", said, flags=re.MULTILINE))
    found = ((name, failed_sentence(Path(name))) for name in names)
    return [f"{name}: {sentence}" for name, sentence in found if sentence]


def failed_sentence(log):
    """The sentence that a log ends with, or that its disk had no room for one; None where neither is so."""
    line = log.read_text().strip().split("\n")[-1] if log.is_file() else ""
    if line.startswith("error: "):
        return line
    full = log.parent.is_dir() and shutil.disk_usage(log.parent).free == 0
    return (
        "error: the disk is full, so this log is cut; free some space and run the same command again" if full else None
    )
