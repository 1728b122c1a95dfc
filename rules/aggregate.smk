# Aggregate: one tidy table between measuring and analysing. A run that failed is a row like any other.


def campaigns_section(wildcards):
    """Which runs belong to which campaign, and what the campaign reports."""
    return STUDY.campaign_index()


def run_artifacts(wildcards):
    """The run.json of every run."""
    return [f"<results>/train/{r.model}/{r.arm}/seed{r.seed}/run.json" for r in STUDY.runs.values()]


def evaluation_artifacts(wildcards):
    """The evaluations of every run, and of every base model."""
    return [f"<results>/evaluate/{path}.json" for path in STUDY.evaluations()]


rule aggregate:
    input:
        runs=run_artifacts,
        evaluations=evaluation_artifacts,
    output:
        with_sidecars(f"<results>/aggregate/{table}" for table in STUDY.ledgers()),
    log:
        "logs/aggregate.log",
    params:
        **lineage("aggregate.py", "report", campaigns=campaigns_section),
    conda:
        "../envs/report.yaml"
    shell:
        "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/aggregate.py --out-dir $(dirname {output[0]:q}) "
        "--lineage {params:q} > {log:q} 2>&1"
