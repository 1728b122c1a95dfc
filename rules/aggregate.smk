# Aggregate: one tidy table between measuring and analysing. A run that failed is a row like any other.


rule aggregate:
    input:
        bind(inputs.ledger_artifacts),
    output:
        ledger=mark_for_report("<results>/aggregate/ledger.csv", "Ledgers"),
        sidecar=mark_sidecar_for_report("<results>/aggregate/ledger.csv"),
        tables=with_sidecars(
            mark_table_for_report(f"<results>/aggregate/{table}", "Ledgers") for table in STUDY.result_tables()
        ),
    log:
        "logs/aggregate.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("aggregate.py", "report", campaigns=sections.campaigns, published_scores=sections.published_scores),
        inputs.inputs_fact,
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/aggregate.py" --out-dir "$(dirname {output.ledger:q})" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
