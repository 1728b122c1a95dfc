# Evaluate: one job a run, all its benchmarks, the model loaded once; the base model once. Generated code is judged by a
# rule of its own, in a sandbox, never beside the model. Where a campaign has vLLM write the answers that are generated,
# these are a second job, in its environment: the step generate.


# A rule's outputs are fixed, so each set of benchmarks that some model needs has its own rule. A shell command is put
# together when its job runs, from what a loop's variables are by then: nothing of a loop stands in one.
for benchmarks, models in STUDY.benchmark_sets("evaluate").items():

    rule:
        name:
            "_".join(["evaluate", *benchmarks])
        input:
            precision=measured_precision,
            model="<resources>/models/{model}.lock.json",
            data=training_data,
            run=evaluated_run,
            questions=question_locks(benchmarks),
        output:
            evaluated_files(benchmarks),
        log:
            "logs/evaluate/{model}/{run}.log",
        wildcard_constraints:
            model="|".join(map(re.escape, models)),
        conda:
            "../envs/evaluate.yaml"
        threads: all_cores
        resources:
            **on_gpu(lambda wildcards: WALLTIMES.evaluation(wildcards.model)),
        params:
            *lineage(
                "evaluate_run.py",
                "evaluate",
                extra=task_files(benchmarks),
                model=model_section,
                encoding=encoding_section,
                evaluation=evaluation_section("evaluate", benchmarks),
            ),
        shell:
            '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/evaluate_run.py" --model-lock {input.model:q} '
            "--data-lock {input.data:q} --precision {input.precision:q} --run {input.run:q} "
            "--questions {input.questions:q} --threads {threads} --outputs {output:q} "
            "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"


for benchmarks, models in STUDY.benchmark_sets("generate").items():

    rule:
        name:
            "_".join(["generate", *benchmarks])
        input:
            precision=measured_precision,
            model="<resources>/models/{model}.lock.json",
            data=training_data,
            run=evaluated_run,
            questions=question_locks(benchmarks),
        output:
            evaluated_files(benchmarks),
        log:
            "logs/generate/{model}/{run}.log",
        wildcard_constraints:
            model="|".join(map(re.escape, models)),
        conda:
            "../envs/vllm.yaml"
        threads: all_cores
        resources:
            **on_gpu(lambda wildcards: WALLTIMES.evaluation(wildcards.model)),
        params:
            *lineage(
                "generate.py",
                "vllm",
                extra=task_files(benchmarks),
                model=model_section,
                encoding=encoding_section,
                evaluation=evaluation_section("generate", benchmarks),
            ),
        shell:
            '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/generate.py" --model-lock {input.model:q} '
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
        **on_cpu(programs=True),
    params:
        *lineage("score_code.py", "score_code", humaneval=humaneval_section),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/score_code.py" --generations {input.generations:q} '
        '--questions {input.questions:q} --threads {threads} --out-dir "$(dirname {output.score:q})" '
        "--attempt {resources.attempt} --lineage {params:q} > {log:q} 2>&1"
