# Figures: plotted from the statistics and the tables of aggregate; a change of style reruns nothing else.


rule figures:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        stats="<results>/stats/summary.json",
        layers=bind(inputs.layers),
        curves=bind(inputs.curves),
    output:
        **figure_files("<results>/figures/{figure}", "figure", "{figure}"),
    log:
        "logs/figures/{figure}.log",
    wildcard_constraints:
        figure=one_of(STUDY.figure_names()),
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("figures.py", "report", figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/figures.py" --ledger {input.ledger:q} --stats {input.stats:q} '
        '--layers {input.layers:q} --curves {input.curves:q} --figure {wildcards.figure} --out-dir "$(dirname {output.pdf:q})" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
