# Interleaved: arms timed in turns in one process, for tighter ratios than those of the ledger's runs. Not part of the
# default target; `snakemake paired` takes std and each selecting arm, `snakemake attribution` asks where a step's time goes.


rule paired:
    input:
        "<results>/paired/summary.csv",


rule interleave:
    input:
        precision=measured_precision,
        model="<resources>/models/{model}.lock.json",
        data=training_data,
        probe="<results>/probe/{model}/seed{seed}.json",
        selection="<results>/select/{model}/{arm}/seed{seed}.json",
    output:
        "<results>/paired/{model}/{arm}/seed{seed}.json",
    log:
        "logs/paired/{model}-{arm}-seed{seed}.log",
    wildcard_constraints:
        arm=arms_of("train_ale"),
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    resources:
        **on_gpu(lambda wildcards: WALLTIMES.turns(wildcards.model, arms=2)),
    params:
        *lineage(
            "interleave.py",
            "gpu",
            run=run_section,
            model=trained_model_section,
            encoding=encoding_section,
            adapter=adapter_section,
            arm=arm_section,
            std=std_section,
            training=timed_section,
            interleaving=interleaving_section,
        ),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/interleave.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--precision {input.precision:q} --probe {input.probe:q} --selection {input.selection:q} "
        "--seed {wildcards.seed} --threads {threads} --out {output:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule paired_summary:
    input:
        paired_artifacts,
    output:
        table="<results>/paired/summary.csv",
        sidecar="<results>/paired/summary.csv.lineage.json",
    log:
        "logs/paired.log",
    conda:
        "../envs/report.yaml"
    resources:
        **on_cpu(),
    params:
        *lineage("paired_summary.py", "report"),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/paired_summary.py" --pairs {input:q} --out {output.table:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule attribution:
    input:
        "<results>/attribution/figS3.pdf",


rule attribute:
    input:
        precision=measured_precision,
        model="<resources>/models/{model}.lock.json",
        data=training_data,
        probe="<results>/probe/{model}/seed{seed}.json",
    output:
        "<results>/attribution/{model}/seed{seed}.json",
    log:
        "logs/attribution/{model}-seed{seed}.log",
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    resources:
        **on_gpu(lambda wildcards: WALLTIMES.turns(wildcards.model, arms=10)),
    params:
        *lineage(
            "attribution.py",
            "gpu",
            run=attributed_model_section,
            model=trained_model_section,
            encoding=encoding_section,
            adapter=attributed_adapter_section,
            training=attributed_training_section,
            interleaving=interleaving_section,
        ),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/attribution.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--precision {input.precision:q} --probe {input.probe:q} --seed {wildcards.seed} --threads {threads} "
        "--out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule draw_attribution:
    input:
        attribution_artifacts,
    output:
        pdf="<results>/attribution/figS3.pdf",
        others=[
            "<results>/attribution/figS3.png",
            report(
                "<results>/attribution/figS3.svg",
                caption="../workflow/report/figS3.rst",
                category="Figures",
                labels={"figure": "figS3"},
            ),
        ],
        sidecars=[
            *[f"<results>/attribution/figS3.{suffix}.lineage.json" for suffix in ("pdf", "png")],
            reported_sidecar("<results>/attribution/figS3.svg"),
        ],
    log:
        "logs/attribution.log",
    conda:
        "../envs/report.yaml"
    resources:
        **on_cpu(),
    params:
        *lineage("draw_attribution.py", "report", figures=figures_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/draw_attribution.py" --attributions {input:q} '
        '--out-dir "$(dirname {output.pdf:q})" --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1'
