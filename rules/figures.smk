# Figures: drawn from the ledger and the statistics alone; a change of style reruns nothing else.


rule figures:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        stats="<results>/stats/summary.json",
        layers=layers_of_figure,
    output:
        pdf="<results>/figures/{figure}.pdf",
        others=[
            "<results>/figures/{figure}.png",
            report(
                "<results>/figures/{figure}.svg",
                caption="../workflow/report/figure.rst",
                category="Figures",
                labels={"figure": "{figure}"},
            ),
        ],
        sidecars=[
            *[f"<results>/figures/{{figure}}.{suffix}.lineage.json" for suffix in ("pdf", "png")],
            reported_sidecar("<results>/figures/{figure}.svg"),
        ],
    log:
        "logs/figures/{figure}.log",
    wildcard_constraints:
        figure="|".join(STUDY.figure_names()) or "(?!)",
    conda:
        "../envs/report.yaml"
    resources:
        **on_cpu(),
    params:
        *lineage("figures.py", "report", figures=figures_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/figures.py" --ledger {input.ledger:q} --stats {input.stats:q} '
        '--layers {input.layers:q} --figure {wildcards.figure} --out-dir "$(dirname {output.pdf:q})" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
