# Train: the same work in every arm. `std` adapts all layers, `ale` the selection, `cm` the selection for more steps;
# further arms reuse the rule that fits them. Each takes all cores, so that no timed job has company.


TRAIN = lineage(
    "train.py",
    "gpu",
    run=run_section,
    model=trained_model_section,
    encoding=encoding_section,
    adapter=adapter_section,
    arm=arm_section,
    training=training_section,
)


rule batches:
    input:
        model="<resources>/models/{model}.lock.json",
        data=training_data,
    output:
        "<results>/batches/{model}/seed{seed}.json",
    log:
        "logs/batches/{model}-seed{seed}.log",
    conda:
        "../envs/gpu.yaml"
    resources:
        **in_turn(lambda wildcards: WALLTIMES.small()),
    params:
        *lineage("draw_batches.py", "gpu", encoding=encoding_section, batches=batches_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/draw_batches.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--seed {wildcards.seed} --out {output:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule train_std:
    input:
        precision=measured_precision,
        model="<resources>/models/{model}.lock.json",
        data=training_data,
        batches="<results>/batches/{model}/seed{seed}.json",
    output:
        run="<results>/train/{model}/{arm}/seed{seed}/run.json",
        adapter=directory("<results>/train/{model}/{arm}/seed{seed}/adapter"),
        sidecar="<results>/train/{model}/{arm}/seed{seed}/adapter.lineage.json",
    log:
        "logs/train/{model}-{arm}-seed{seed}.log",
    wildcard_constraints:
        arm=arms_of("train_std"),
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    resources:
        **in_turn(lambda wildcards: WALLTIMES.training(run_of(wildcards))),
        checkpoint_seconds=checkpoint_seconds,
        tensorboard=tensorboard,
    params:
        *TRAIN,
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/train.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--precision {input.precision:q} --batches {input.batches:q} --seed {wildcards.seed} --threads {threads} "
        "--checkpoint-seconds {resources.checkpoint_seconds} --tensorboard {resources.tensorboard} "
        "--events logs/tensorboard/{wildcards.model}-{wildcards.arm}-seed{wildcards.seed} --out {output.run:q} "
        "--adapter {output.adapter:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule train_ale:
    input:
        precision=measured_precision,
        model="<resources>/models/{model}.lock.json",
        data=training_data,
        batches="<results>/batches/{model}/seed{seed}.json",
        probe="<results>/probe/{model}/seed{seed}.json",
        selection="<results>/select/{model}/{arm}/seed{seed}.json",
        std=bought_by("std"),
        ale=bought_by("ale"),
    output:
        run="<results>/train/{model}/{arm}/seed{seed}/run.json",
        adapter=directory("<results>/train/{model}/{arm}/seed{seed}/adapter"),
        sidecar="<results>/train/{model}/{arm}/seed{seed}/adapter.lineage.json",
    log:
        "logs/train/{model}-{arm}-seed{seed}.log",
    wildcard_constraints:
        arm=arms_of("train_ale"),
    conda:
        "../envs/gpu.yaml"
    threads: all_cores
    resources:
        **in_turn(lambda wildcards: WALLTIMES.training(run_of(wildcards))),
        checkpoint_seconds=checkpoint_seconds,
        tensorboard=tensorboard,
    params:
        *TRAIN,
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/train.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--precision {input.precision:q} --probe {input.probe:q} --selection {input.selection:q} "
        "--batches {input.batches:q} --std-run {input.std:q} --ale-run {input.ale:q} --seed {wildcards.seed} "
        "--threads {threads} --checkpoint-seconds {resources.checkpoint_seconds} --tensorboard {resources.tensorboard} "
        "--events logs/tensorboard/{wildcards.model}-{wildcards.arm}-seed{wildcards.seed} "
        "--out {output.run:q} --adapter {output.adapter:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


use rule train_ale as train_cm with:
    wildcard_constraints:
        arm=arms_of("train_cm"),
