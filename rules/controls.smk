# Controls: is it the gradient, or would any choice of as many layers do? Not part of the default target;
# `snakemake controls` answers it from the finished study and the step costs of its models.


rule controls:
    input:
        "<results>/controls/summary.json",
        bind(inputs.control_attribution_figure),


rule controls_summary:
    input:
        ledger="<results>/aggregate/ledger.csv",
        sidecar="<results>/aggregate/ledger.csv.lineage.json",
        curves=bind(inputs.control_curves),
        selections=bind(inputs.control_selections),
        attributions=bind(inputs.control_attributions),
        runs=bind(inputs.control_rates),
    output:
        **figure_files("<results>/controls/figS6", "figS6", "figS6"),
        summary="<results>/controls/summary.json",
        text=with_sidecars([mark_for_report("<results>/controls/CONTROLS.md", "Analyses")]),
        tables=with_sidecars(
            mark_for_report(f"<results>/controls/tableS2.{suffix}", "Tables") for suffix in ("csv", "md", "tex")
        ),
    log:
        "logs/controls.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("controls.py", "report", controls=sections.controls, figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/controls.py" --ledger {input.ledger:q} --curves {input.curves:q} '
        "--selections {input.selections:q} --attributions {input.attributions:q} --runs {input.runs:q} "
        "--out {output.summary:q} --attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
