# Search: which recipe reaches the loss of tuned standard LoRA in the least time? Not part of the default target;
# `snakemake search` answers it for each campaign with a section `search`. Its trials are runs of the ordinary rules. Which
# ones the later rungs read is decided by the artifacts of the earlier ones, so these are checkpoints: a dry run before the
# start shows floor, costs and scan, and what follows once it is known.


SEARCH = SearchInputs(bind, checkpoints, TREES.results, lambda: workflow.dryrun and workflow.dag_settings.forceall)


rule search:
    input:
        "<results>/search/summary.json",


# A shell command is formatted when its job runs, with the last values of a loop's variables: so it uses none of them.
for rung in SEARCHED_RUNGS:

    checkpoint:
        name:
            f"search_{rung}"
        input:
            before=bind(partial(search_inputs.before, rung=rung)),
            runs=SEARCH(search_inputs.runs, rung),
            turns=SEARCH(search_inputs.turns, rung),
            evaluations=SEARCH(search_inputs.evaluations, rung),
        output:
            f"<results>/search/{{model}}/{rung}.json",
        log:
            f"logs/search/{{model}}-{rung}.log",
        wildcard_constraints:
            model=one_of(STUDY.searches),
        localrule: True
        conda:
            "../envs/report.yaml"
        resources:
            attempt=attempt_number,
            rung=rung,
        params:
            *lineage("search.py", "report", search=sections.search),
        shell:
            '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/search.py" --rung {resources.rung} --before {input.before:q} '
            "--runs {input.runs:q} --turns {input.turns:q} --evaluations {input.evaluations:q} --out {output:q} "
            "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule search_recipe:
    input:
        "<results>/search/{model}/decision.json",
    output:
        recipe="<results>/search/{model}/recipe.yaml",
        sidecar="<results>/search/{model}/recipe.yaml.lineage.json",
    log:
        "logs/search/{model}-recipe.log",
    wildcard_constraints:
        model=one_of(STUDY.searches),
    localrule: True
    conda:
        "../envs/report.yaml"
    resources:
        attempt=attempt_number,
    params:
        *lineage("search_recipe.py", "report"),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/search_recipe.py" --decision {input:q} --out {output.recipe:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule search_report:
    input:
        rungs=bind(search_inputs.report_inputs),
        recipes=bind(search_inputs.recipes),
    output:
        **figure_files("<results>/search/figS7", "figS7", "figS7"),
        summary="<results>/search/summary.json",
        text=with_sidecars([mark_for_report("<results>/search/SEARCH.md", "Analyses")]),
        tables=with_sidecars(
            mark_for_report(f"<results>/search/tableS3.{suffix}", "Tables") for suffix in ("csv", "md", "tex")
        ),
    log:
        "logs/search.log",
    conda:
        "../envs/report.yaml"
    resources:
        **machine.cpu_resources(),
    params:
        *lineage("search_report.py", "report", searches=sections.searches, figures=sections.figures),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/search_report.py" --rungs {input.rungs:q} --out {output.summary:q} '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
