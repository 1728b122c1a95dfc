# Aggregate: one tidy table between measuring and analysing. A run that failed is a row like any other.


rule aggregate:
    input:
        bind(inputs.aggregated),
    output:
        ledger=reported("<results>/aggregate/ledger.csv", "Ledgers"),
        sidecar=reported_sidecar("<results>/aggregate/ledger.csv"),
        tables=with_sidecars(reported(f"<results>/aggregate/{table}", "Ledgers") for table in STUDY.result_tables()),
    log:
        "logs/aggregate.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.on_cpu(),
    params:
        *lineage("aggregate.py", "report", campaigns=sections.campaigns),
        inputs.inputs_token,
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/aggregate.py" --out-dir "$(dirname {output.ledger:q})" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
