# Evidence: the finished study in one archive that can be checked elsewhere, with an RO-Crate that describes each job.


# A name for the archive, wherever the results are.
rule bundle:
    input:
        "<results>/evidence/evidence.zip",


rule evidence:
    input:
        made=bind(partial(inputs.made_files, results=TREES.results, resources=TREES.resources)),
        project=bundle.project_files(),
        configured=bundle.configured_files(config),
    output:
        archive="<results>/evidence/evidence.zip",
        sidecar="<results>/evidence/evidence.zip.lineage.json",
    log:
        "logs/evidence.log",
    conda:
        "../envs/evidence.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("evidence.py", "evidence", study=lambda: dict(config)),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/evidence.py" --out {output.archive:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
