# Select: the layers of an arm by probe score (the paper's section 3.3), and the modules that will carry adapters.


rule select:
    input:
        probe=bind(inputs.probe),
        model=bind(inputs.layers_of_model),
        costs=bind(inputs.costs),
    output:
        "<results>/select/{model}/{arm}/seed{seed}.json",
    log:
        "logs/select/{model}-{arm}-seed{seed}.log",
    priority: bind(priorities.preparation)
    conda:
        "../envs/light.yaml"
    resources:
        **machine.gpu_resources_in_allocation(minutes.small),
    params:
        *lineage("select_layers.py", "light", arm=sections.arm, adapter=sections.adapter_shape),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/select_layers.py" --probe {input.probe:q} --model-lock {input.model:q} --costs {input.costs:q} '
        "--seed {wildcards.seed} "
        "--out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
