# Probe: gradient norms of every layer on a few batches (the paper's section 3.2), and before it, for a model with
# dtype auto, the choice of precision that all its jobs share.


rule precision:
    input:
        model="<resources>/models/{model}.lock.json",
        data=training_data,
    output:
        "<results>/precision/{model}.json",
    log:
        "logs/precision/{model}.log",
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    resources:
        **on_gpu(lambda wildcards: WALLTIMES.precision(wildcards.model)),
    params:
        *lineage("precision.py", "gpu", encoding=encoding_section, precision=precision_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/precision.py" --model-lock {input.model:q} '
        "--data-lock {input.data:q} --threads {threads} --out {output:q} --attempt {resources.attempt} "
        "--lineage {params:q} > {log:q} 2>&1"


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
    resources:
        **in_turn(lambda wildcards: WALLTIMES.probe(wildcards.model)),
    params:
        *lineage("probe.py", "gpu", model=model_section, encoding=encoding_section, probe=probe_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/probe.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--precision {input.precision:q} --seed {wildcards.seed} "
        "--threads {threads} --out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
