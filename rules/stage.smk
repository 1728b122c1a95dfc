# Stage: the only step that reaches beyond this machine. Each staged model and data set gets a lock with the sha256 of
# its files; the files themselves are no declared output, so that a rerun finds and keeps what is already right.


rule stage:
    input:
        expand("<resources>/models/{model}.lock.json", model=STUDY.used_models()),
        expand("<resources>/data/{data}.lock.json", data=STUDY.used_data()),


rule stage_model:
    input:
        bind(inputs.model_files),
    output:
        "<resources>/models/{model}.lock.json",
    log:
        "logs/stage/model-{model}.log",
    priority: bind(priorities.shared)
    conda:
        "../envs/stage.yaml"
    resources:
        attempt=attempt_number,
    params:
        *lineage("stage.py", "stage", model=sections.model_source),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/stage.py" model {wildcards.model} --out {output:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule stage_data:
    input:
        bind(inputs.data_files),
    output:
        "<resources>/data/{data}.lock.json",
    log:
        "logs/stage/data-{data}.log",
    priority: bind(priorities.shared)
    conda:
        "../envs/stage.yaml"
    resources:
        attempt=attempt_number,
    params:
        *lineage("stage.py", "stage", data=sections.data_source),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/stage.py" data {wildcards.data} --out {output:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
