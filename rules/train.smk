# Train: the same work in every arm. `std` adapts all layers, `ale` the selection, `cm` the selection for more steps;
# further arms reuse the rule that fits them. Each takes all cores, so that a timed job runs alone. What an arm does not
# need (probe, selection, the runs that decide its number of steps) is no input of its job.


TRAIN = lineage(
    "train.py",
    "gpu",
    run=sections.run,
    model=sections.trained_model,
    encoding=sections.token_limit,
    adapter=sections.adapter,
    arm=sections.arm,
    training=sections.training,
)


# Settings that decide no result: a change of resources reruns nothing.
INDECISIVE = {each.__name__: bind(each) for each in (checkpoint_seconds, tensorboard, prefix_mib)}


rule batches:
    input:
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
    output:
        "<results>/batches/{model}/seed{seed}.json",
    log:
        "logs/batches/{model}-seed{seed}.log",
    priority: bind(priorities.preparation)
    conda:
        "../envs/gpu.yaml"
    resources:
        **machine.gpu_resources_in_allocation(minutes.small),
    params:
        *lineage("draw_batches.py", "gpu", batches=sections.batches),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/draw_batches.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--tokens {input.tokens[0]:q} --seed {wildcards.seed} --out {output:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule train_std:
    input:
        unpack(bind(inputs.deciding)),
        precision=bind(inputs.precision),
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
        tokens=bind(inputs.tokens),
        batches="<results>/batches/{model}/seed{seed}.json",
        probe=bind(inputs.probe),
        selection=bind(inputs.selection),
    output:
        run="<results>/train/{model}/{arm}/seed{seed}/run.json",
        adapter=directory("<results>/train/{model}/{arm}/seed{seed}/adapter"),
        sidecar="<results>/train/{model}/{arm}/seed{seed}/adapter.lineage.json",
    log:
        "logs/train/{model}-{arm}-seed{seed}.log",
    wildcard_constraints:
        arm=one_of(STUDY.arms_of_rule("train_std")),
    priority: bind(priorities.training)
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        **machine.gpu_resources_in_allocation(minutes.training),
        **INDECISIVE,
    params:
        *TRAIN,
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/train.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--tokens {input.tokens[0]:q} --precision {input.precision:q} --probe {input.probe:q} "
        "--selection {input.selection:q} --batches {input.batches:q} --std-run {input.std:q} --ale-run {input.ale:q} "
        "--trials {input.trials:q} --costs {input.costs:q} --timed-selection {input.timed:q} --turns {input.turns:q} "
        "--seed {wildcards.seed} --threads {threads} --checkpoint-seconds {resources.checkpoint_seconds} --tensorboard "
        "{resources.tensorboard} --events logs/tensorboard/{wildcards.model}-{wildcards.arm}-seed{wildcards.seed} "
        "--prefix-mib {resources.prefix_mib} "
        "--out {output.run:q} --adapter {output.adapter:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


use rule train_std as train_ale with:
    wildcard_constraints:
        arm=one_of(STUDY.arms_of_rule("train_ale")),


use rule train_std as train_cm with:
    wildcard_constraints:
        arm=one_of(STUDY.arms_of_rule("train_cm")),
