# Replication: each cell of the paper's tables, and each claim of its text, beside ours. Part of the default target where the study has a model of the
# paper; `snakemake replication` asks for it alone.


rule replication:
    input:
        bind(inputs.replication),


rule replication_summary:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        answers=bind(inputs.answers),
        answers_sidecar=bind(inputs.answers_sidecar),
        analysis=PLAN,
        published=[*PUBLISHED, "config/published/autoresearch.csv", "config/published/claims.csv"],
    output:
        **figure_files("<results>/replication/figR1", "figR1", "figR1"),
        summary="<results>/replication/summary.json",
        text=with_sidecars([mark_for_report("<results>/replication/REPLICATION.md", "Analyses")]),
        tables=with_sidecars(
            mark_for_report(f"<results>/replication/{name}.csv", "Tables", caption=f"replication_{name}")
            for name in ("cells", "claims")
        ),
    log:
        "logs/replication.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("replication.py", "report", figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/replication.py" --ledger {input.ledger:q} --answers {input.answers:q} '
        "--published config/published --analysis {input.analysis:q} --out {output.summary:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
