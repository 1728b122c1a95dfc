# Select: the layers of an arm by probe score (the paper's section 3.3), and the modules that will carry adapters.


rule select:
    input:
        probe="<results>/probe/{model}/seed{seed}.json",
    output:
        "<results>/select/{model}/{arm}/seed{seed}.json",
    log:
        "logs/select/{model}-{arm}-seed{seed}.log",
    conda:
        "../envs/light.yaml"
    resources:
        **in_turn(lambda wildcards: WALLTIMES.small()),
    params:
        *lineage("select_layers.py", "light", arm=arm_section, adapter=ranks_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/select_layers.py" --probe {input.probe:q} --seed {wildcards.seed} '
        "--out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
