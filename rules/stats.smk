# Stats: from the ledger to means, intervals and tests, every arm against std, the tables and the two written analyses.
PUBLISHED = [project_file(f"config/published/table{number}.csv") for number in range(1, 6)]


rule stats:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        answers=bind(inputs.answers),
        answers_sidecar=bind(inputs.answers_sidecar),
        analysis=PLAN,
        published=PUBLISHED,
    output:
        summary="<results>/stats/summary.json",
        arms=with_sidecars([mark_for_report("<results>/stats/arms.csv", "Tables")]),
        analyses=with_sidecars(mark_for_report(f"<results>/stats/{name}", "Analyses") for name in STUDY.analyses()),
        tables=with_sidecars(
            mark_for_report(f"<results>/tables/table{number}.{suffix}", "Tables")
            for number in STUDY.tables()
            for suffix in ("csv", "md", "tex")
        ),
    log:
        "logs/stats.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("stats.py", "report", reports=sections.reports, budget_sweeps=sections.budget_sweeps),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/stats.py" --ledger {input.ledger:q} '
        '--published "$(dirname {input.published[0]:q})" '
        "--answers {input.answers:q} --analysis {input.analysis:q} "
        '--stats-dir "$(dirname {output.summary:q})" --tables-dir "$(dirname {output.summary:q})/../tables" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
