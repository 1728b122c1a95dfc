# Evaluate: one job a run, all its benchmarks, the model loaded once; the base model once. Generated code is judged by a
# rule of its own, in a sandbox, never beside the model. Where a campaign has vLLM write the answers that are generated,
# these are a second job, in its environment: the step generate.


# A rule's outputs are fixed, so each set of benchmarks that some model needs has its own rule.
for step, script, environment in (("evaluate", "evaluate_run.py", "evaluate"), ("generate", "generate.py", "vllm")):
    for benchmarks, models in STUDY.benchmark_sets(step).items():

        rule:
            name:
                "_".join([step, *benchmarks])
            input:
                precision=measured_precision,
                model="<resources>/models/{model}.lock.json",
                data=training_data,
                run=evaluated_run,
                questions=question_locks(benchmarks),
            output:
                evaluated_files(benchmarks),
            log:
                f"logs/{step}/{{model}}/{{run}}.log",
            wildcard_constraints:
                model="|".join(map(re.escape, models)),
            conda:
                f"../envs/{environment}.yaml"
            threads: all_cores
            resources:
                **on_gpu(lambda wildcards: WALLTIMES.evaluation(wildcards.model)),
                script=script,
            params:
                **lineage(
                    script,
                    environment,
                    extra=TASKS,
                    model=model_section,
                    encoding=encoding_section,
                    evaluation=evaluation_section(step, benchmarks),
                ),
            # Formatted when a job runs, and the loop is over by then: the script's name has to be the rule's own.
            shell:
                "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/{resources.script} --model-lock {input.model:q} "
                "--data-lock {input.data:q} --precision {input.precision:q} --run {input.run:q} "
                "--questions {input.questions:q} --threads {threads} --outputs {output:q} "
                "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule score_code:
    input:
        generations="<results>/evaluate/{model}/{run}/humaneval.generations.parquet",
        sidecar="<results>/evaluate/{model}/{run}/humaneval.generations.parquet.lineage.json",
        questions=humaneval_lock,
    output:
        score="<results>/evaluate/{model}/{run}/humaneval.json",
        table="<results>/evaluate/{model}/{run}/humaneval.parquet",
        sidecar="<results>/evaluate/{model}/{run}/humaneval.parquet.lineage.json",
    log:
        "logs/score_code/{model}/{run}.log",
    conda:
        "../envs/score_code.yaml"
    threads: several_cores
    resources:
        **on_cpu(),
    params:
        **lineage("score_code.py", "score_code", humaneval=humaneval_section),
    shell:
        "$ALETHEIA_PYTHON -s $ALETHEIA_SCRIPTS/score_code.py --generations {input.generations:q} "
        "--questions {input.questions:q} --threads {threads} --out-dir $(dirname {output.score:q}) "
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
