# Fit: base model, standard LoRA and the other arms of one model, whether choosing layers was worth it, and which adapter to
# use. Not part of the default target; `snakemake fit` finishes the study and answers it, and `aletheia fit` ends with it.


rule fit:
    input:
        "<results>/fit/summary.json",
        # A study without its tables and figures would be found unfinished by verify and audit.
        bind(inputs.study_targets),


rule fit_report:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        stats="<results>/stats/summary.json",
        answers=bind(inputs.answers),
        answers_sidecar=bind(inputs.answers_sidecar),
        analysis=PLAN,
        runs=bind(inputs.fit_runs),
    output:
        **figure_files("<results>/fit/report", "fit", "fit"),
        summary="<results>/fit/summary.json",
        text=with_sidecars([mark_for_report("<results>/fit/REPORT.md", "Analyses")]),
    log:
        "logs/fit.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("fit_report.py", "report", fit=sections.fit, figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/fit_report.py" --ledger {input.ledger:q} --stats {input.stats:q} '
        "--answers {input.answers:q} --analysis {input.analysis:q} --runs {input.runs:q} --out {output.summary:q} "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
