# Evaluate: one job a run, all its benchmarks, the model loaded once; the base model once. Generated code is judged by a
# rule of its own, in a sandbox, never beside the model. Where a campaign has vLLM write the answers that are generated,
# these are a second job, in its environment: the step generate.


# A rule's outputs are fixed, so each set of benchmarks that the runs of some arm answer has its own rule. A shell command
# is formatted when its job runs, with the last values of a loop's variables: so it uses none of them.
for step, script, env in (("evaluate", "evaluate_run.py", "evaluate"), ("generate", "generate.py", "vllm")):
    for benchmarks, evaluated in STUDY.benchmark_sets(step).items():

        rule:
            name:
                "_".join([step, *benchmarks])
            input:
                precision=bind(inputs.precision),
                model="<resources>/models/{model}.lock.json",
                data=bind(inputs.training_data),
                run=bind(inputs.evaluated_run),
                questions=bind(partial(inputs.question_locks, benchmarks=benchmarks)),
            output:
                [f"<results>/evaluate/{{model}}/{{run}}/{name}" for name in evaluation_outputs(benchmarks)],
            log:
                f"logs/{step}/{{model}}/{{run}}.log",
            wildcard_constraints:
                model=model_with_arms(evaluated),
            priority: bind(priorities.evaluation)
            conda:
                f"../envs/{env}.yaml"
            threads: machine.all_cores
            resources:
                **machine.gpu_resources(minutes.evaluation),
                script=script,
            params:
                *lineage(
                    script,
                    env,
                    extra=task_files(benchmarks),
                    model=sections.loading,
                    encoding=sections.encoding,
                    evaluation=partial(sections.evaluation, step=step, benchmarks=benchmarks),
                ),
            shell:
                '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS"/{resources.script} --model-lock {input.model:q} '
                "--data-lock {input.data:q} --precision {input.precision:q} --run {input.run:q} "
                "--questions {input.questions:q} --threads {threads} --outputs {output:q} "
                "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


rule score_code:
    input:
        generations="<results>/evaluate/{model}/{run}/humaneval.generations.parquet",
        sidecar="<results>/evaluate/{model}/{run}/humaneval.generations.parquet.lineage.json",
        questions=bind(inputs.humaneval_lock),
    output:
        score="<results>/evaluate/{model}/{run}/humaneval.json",
        table="<results>/evaluate/{model}/{run}/humaneval.parquet",
        sidecar="<results>/evaluate/{model}/{run}/humaneval.parquet.lineage.json",
    log:
        "logs/score_code/{model}/{run}.log",
    priority: bind(priorities.evaluation)
    conda:
        "../envs/score_code.yaml"
    threads: machine.several_cores
    resources:
        **machine.cpu_resources(programs=True),
    params:
        *lineage("score_code.py", "score_code", humaneval=sections.judging),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/score_code.py" --generations {input.generations:q} '
        '--questions {input.questions:q} --threads {threads} --out-dir "$(dirname {output.score:q})" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
