# Probe: gradient norms of every layer on a few batches (the paper's section 3.2), and before it, for a model with
# dtype auto, the choice of precision that all its jobs share. Arms that choose by a few steps of training have a probe of
# their own.


rule precision:
    input:
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
    output:
        "<results>/precision/{model}.json",
    log:
        "logs/precision/{model}.log",
    priority: bind(priorities.shared)
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        **machine.gpu_resources(minutes.precision),
    params:
        *lineage("precision.py", "gpu", encoding=sections.token_limit, precision=sections.precision),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/precision.py" --model-lock {input.model:q} '
        "--data-lock {input.data:q} --tokens {input.tokens[0]:q} --threads {threads} --out {output:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule probe:
    input:
        precision=bind(inputs.precision),
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
    output:
        "<results>/probe/{model}/seed{seed}.json",
    log:
        "logs/probe/{model}-seed{seed}.log",
    priority: bind(priorities.preparation)
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        **machine.gpu_resources_in_allocation(minutes.probe),
    params:
        *lineage("probe.py", "gpu", model=sections.loading, encoding=sections.token_limit, probe=sections.probe),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/probe.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--tokens {input.tokens[0]:q} --precision {input.precision:q} --seed {wildcards.seed} "
        "--threads {threads} --out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule adapter_updates:
    input:
        precision=bind(inputs.precision),
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
    output:
        "<results>/updates/{model}/seed{seed}.json",
    log:
        "logs/updates/{model}-seed{seed}.log",
    priority: bind(priorities.preparation)
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        **machine.gpu_resources_in_allocation(minutes.updates),
    params:
        *lineage(
            "adapter_updates.py",
            "gpu",
            model=sections.trained_model,
            encoding=sections.token_limit,
            adapter=sections.updates_adapter,
            training=sections.updates_training,
            probe=sections.updates,
        ),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/adapter_updates.py" --model-lock {input.model:q} '
        "--data-lock {input.data:q} --tokens {input.tokens[0]:q} --precision {input.precision:q} "
        "--seed {wildcards.seed} --threads {threads} --out {output:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
