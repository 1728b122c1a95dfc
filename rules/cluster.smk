# Cluster: what must be so before anything is submitted, and a look at the devices that jobs see.
import os

from aletheia import slurm


def meet_cluster():
    """Wait for the jobs that a killed controller left, and stop where the cluster would refuse one of ours."""
    try:
        if slurm.wait_for_orphans(Path(".snakemake/log")):
            # What they have made counts, so everything is planned anew.
            os.execv(sys.executable, [sys.executable, *sys.argv])
        if workflow.executor_plugin.name == "slurm":
            sentences = slurm.refusals(requests(), slurm.read_cluster())
            if sentences:
                raise WorkflowError("\n".join(sentences))
    except UserError as error:
        raise WorkflowError(str(error)) from None


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
    return slurm.Request(job=f"{names} of {which}", **{name: asked.get(key) for name, key in keys.items()})


# A short job, in a quality of service that starts it soon.
SMOKE = SITE.smoke if SITE else {"minutes": None, "qos": None}


rule leonardo_smoke:
    input:
        expand("<results>/smoke/gpus{gpus}.txt", gpus=[1, 4]),
    log:
        "logs/smoke.log",
    conda:
        "../envs/gpu.yaml"
    shell:
        "cat {input:q} | tee {log:q}"


rule smoke:
    output:
        temp("<results>/smoke/gpus{gpus}.txt"),
    log:
        "logs/smoke/gpus{gpus}.log",
    wildcard_constraints:
        gpus="[1-8]",
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    resources:
        **on_gpu(lambda wildcards: SMOKE["minutes"], qos=SMOKE["qos"]),
    shell:
        "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/smoke.py --gpus {wildcards.gpus} --out {output:q} > {log:q} 2>&1"
