# Interleaved: arms timed in turns in one process, for tighter ratios than those of the ledger's runs. Part of the default
# target where a campaign says `speed: turns`. `snakemake paired` takes std (twice, so that a measurement shows what it
# cannot tell apart) and each other arm, one job an arm: a failure, or a further arm, concerns that arm alone.
# `snakemake attribution` asks where a step's time goes.


INTERLEAVE = lineage(
    "interleave.py",
    "gpu",
    run=sections.run,
    model=sections.trained_model,
    encoding=sections.token_limit,
    adapter=sections.adapter,
    arm=sections.arm,
    std=sections.standard_arm,
    training=sections.timed_training,
    interleaving=sections.interleaving,
)


rule paired:
    input:
        "<results>/paired/summary.csv",


rule interleave:
    input:
        precision=bind(inputs.precision),
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
        probe=bind(inputs.probe),
        selection=bind(inputs.selection),
    output:
        "<results>/paired/{model}/{arm}/seed{seed}.json",
    log:
        "logs/paired/{model}-{arm}-seed{seed}.log",
    wildcard_constraints:
        arm=one_of(dict.fromkeys(run.arm for run in STUDY.paired_runs())),
    priority: bind(priorities.measurement)
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        **machine.gpu_resources(partial(minutes.turns, arms=ARMS_PER_MEASUREMENT)),
    params:
        *INTERLEAVE,
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/interleave.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--tokens {input.tokens[0]:q} --precision {input.precision:q} --probe {input.probe:q} "
        "--selection {input.selection:q} --seed {wildcards.seed} --threads {threads} --out {output:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


# A search's recipe, in the allocation of the trials that take as many steps as it says.
use rule interleave as interleave_recipe with:
    wildcard_constraints:
        arm=one_of(STUDY.timed_recipes()),
    priority: bind(priorities.preparation)
    resources:
        **machine.gpu_resources_in_allocation(partial(minutes.turns, arms=ARMS_PER_MEASUREMENT)),


# The same again for its confirmation. Not in an allocation of trials, since those of all its seeds wait for it.
use rule interleave as interleave_again with:
    wildcard_constraints:
        arm=one_of(STUDY.timed_recipes(again=True)),
    priority: bind(priorities.preparation)


rule paired_summary:
    input:
        bind(inputs.pairs),
    output:
        table="<results>/paired/summary.csv",
        sidecar="<results>/paired/summary.csv.lineage.json",
    log:
        "logs/paired.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
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
        precision=bind(inputs.precision),
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
        probe="<results>/probe/{model}/seed{seed}.json",
    output:
        "<results>/attribution/{model}/seed{seed}.json",
    log:
        "logs/attribution/{model}-seed{seed}.log",
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        **machine.gpu_resources(partial(minutes.turns, arms=ATTRIBUTED_ARMS)),
    params:
        *lineage(
            "attribution.py",
            "gpu",
            run=sections.attributed_model,
            model=sections.trained_model,
            encoding=sections.token_limit,
            adapter=sections.attributed_adapter,
            training=sections.attributed_training,
            interleaving=sections.interleaving,
        ),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/attribution.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--tokens {input.tokens[0]:q} --precision {input.precision:q} --probe {input.probe:q} --seed {wildcards.seed} "
        "--threads {threads} --out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule draw_attribution:
    input:
        bind(inputs.attributions),
    output:
        **figure_files("<results>/attribution/figS3", "figS3", "figS3"),
    log:
        "logs/attribution.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("draw_attribution.py", "report", figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/draw_attribution.py" --attributions {input:q} '
        '--out-dir "$(dirname {output.pdf:q})" --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1'
