# Figures: drawn from the ledger and the statistics alone; a change of style reruns nothing else.


def figures_section(wildcards):
    """The look of the figures."""
    return STUDY.figures


rule figures:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        stats="<results>/stats/summary.json",
    output:
        with_sidecars(f"<results>/figures/{{figure}}.{suffix}" for suffix in ("pdf", "png", "svg")),
    log:
        "logs/figures/{figure}.log",
    wildcard_constraints:
        figure="|".join(STUDY.figure_names()) or "(?!)",
    params:
        **lineage("figures.py", "report", figures=figures_section),
    conda:
        "../envs/report.yaml"
    shell:
        "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/figures.py --ledger {input.ledger:q} --stats {input.stats:q} "
        "--figure {wildcards.figure} --out-dir $(dirname {output[0]:q}) --lineage {params:q} > {log:q} 2>&1"
