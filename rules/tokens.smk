# Tokens: a model's training data and held-out rows as token ids, once for all that reads them. It loads no weights, so
# it needs no GPU. It reports what the token limit does to the rows.


rule tokens:
    input:
        model="<resources>/models/{model}.lock.json",
        data=bind(inputs.training_data),
    output:
        table="<results>/tokens/{model}.safetensors",
        sidecar="<results>/tokens/{model}.safetensors.lineage.json",
    log:
        "logs/tokens/{model}.log",
    priority: bind(priorities.shared)
    conda:
        "../envs/gpu.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("tokenise.py", "gpu", encoding=sections.encoding),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/tokenise.py" --model-lock {input.model:q} --data-lock {input.data:q} '
        "--out {output.table:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
