# Stability: how much the selection depends on which batches the probe happened to see. Not part of the default target;
# `snakemake stability` probes several independent draws of batches and compares them.


rule stability:
    input:
        "<results>/stability/summary.json",


use rule probe as probe_draw with:
    output:
        "<results>/stability/{model}/seed{seed}.json",
    log:
        "logs/stability/{model}-seed{seed}.log",
    resources:
        **machine.gpu_resources(minutes.stability_draw),
    params:
        *lineage(
            "probe.py", "gpu", model=sections.loading, encoding=sections.token_limit, probe=sections.stability_draw
        ),


rule stability_summary:
    input:
        draws=bind(inputs.stability_draws),
    output:
        summary="<results>/stability/summary.json",
        figures=with_sidecars(f"<results>/stability/stability.{suffix}" for suffix in ("pdf", "png", "svg")),
    log:
        "logs/stability.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("stability.py", "report", stability=sections.stability, figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/stability.py" --draws {input.draws:q} --out {output.summary:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
