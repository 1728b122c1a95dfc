# Probe: gradient norms of every layer on a few batches (the paper's section 3.2), and before it, for a model with
# dtype auto, the choice of precision that all its jobs share.


def precision_section(wildcards):
    """The shape that the choice of precision is measured at."""
    settings = settings_of(wildcards)
    return {
        "batch_size": settings["training"]["batch_size"],
        "max_tokens": settings["encoding"]["max_tokens"],
    }


rule precision:
    input:
        model="<resources>/models/{model}.lock.json",
    output:
        "<results>/precision/{model}.json",
    log:
        "logs/precision/{model}.log",
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    params:
        **lineage("precision.py", "gpu", precision=precision_section),
    shell:
        "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/precision.py --model-lock {input.model:q} --threads {threads} "
        "--out {output:q} --lineage {params:q} > {log:q} 2>&1"


def probe_section(wildcards):
    """The probe's settings."""
    return settings_of(wildcards)["probe"]


rule probe:
    input:
        precision=measured_precision,
        model="<resources>/models/{model}.lock.json",
        data=training_data,
    output:
        "<results>/probe/{model}/seed{seed}.json",
    log:
        "logs/probe/{model}-seed{seed}.log",
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    params:
        **lineage("probe.py", "gpu", model=model_section, encoding=encoding_section, probe=probe_section),
    shell:
        "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/probe.py --model-lock {input.model:q} --data-lock {input.data:q} "
        "--precision {input.precision:q} --seed {wildcards.seed} "
        "--threads {threads} --out {output:q} --lineage {params:q} > {log:q} 2>&1"
