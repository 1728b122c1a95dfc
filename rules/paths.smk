# Inputs and outputs that follow from the study: which file a run, a model or a report needs.
from snakemake.io import is_flagged

from aletheia.audit import bundle
from aletheia.study import outputs
from aletheia.staging.local_paths import local_inputs
from aletheia.study.benchmarks import BENCHMARKS, CODE, table_name
from aletheia.study.report_contents import LAYER_FIGURES, LAYER_TABLE


def study_targets(wildcards):
    """What the study is for: ledgers, statistics, tables, analyses, figures."""
    return outputs.study_targets(STUDY, "<results>")


def model_files(wildcards):
    """The user's own files that a model is staged from."""
    return list(map(str, local_inputs(STUDY.models[wildcards.model])))


def data_files(wildcards):
    """The user's own files that a data set is staged from."""
    return list(map(str, local_inputs(STUDY.data[wildcards.data])))


def with_sidecars(paths):
    """Each file with the sidecar that holds its hash and lineage, which is on the report page where the file is."""
    # Snakemake keeps a mark for the report on the path itself, which adding "" would lose.
    return [
        item
        for path in paths
        for item in (path, reported_sidecar(path) if is_flagged(path, "report") else f"{path}.lineage.json")
    ]


def reported_sidecar(path):
    """Mark a file's sidecar for the report page: its reader may have that page alone, where a path leads nowhere."""
    return report(
        f"{path}.lineage.json",
        caption="../workflow/report/lineage.rst",
        category="Lineage",
        labels={"file": f"{Path(path).name}.lineage.json"},
    )


def reported(path, category):
    """Mark a file for the report page, with the caption of its name.

    With one label alone: of two files that differ in two labels, Snakemake 9.27 makes a switch that breaks its page.
    """
    return report(
        path,
        caption=f"../workflow/report/{Path(path).stem}.rst",
        category=category,
        labels={"file": Path(path).name},
    )


def training_data(wildcards):
    """The lock of a model's training data."""
    return f"<resources>/data/{settings_of(wildcards)['data']}.lock.json"


def measured_precision(wildcards):
    """The measured choice of precision, for a model with dtype auto; nothing for others."""
    auto = STUDY.models[wildcards.model]["dtype"] == "auto"
    return f"<results>/precision/{wildcards.model}.json" if auto else []


def bought_by(arm):
    """The run whose measured time decides the steps of an arm with `steps: measured`."""

    def path(wildcards):
        measured = run_of(wildcards).arm_settings.get("steps") == "measured"
        return f"<results>/train/{wildcards.model}/{arm}/seed{wildcards.seed}/run.json" if measured else []

    return path


def question_locks(benchmarks):
    """The locks of the question sets of some benchmarks."""

    def locks(wildcards):
        names = STUDY.question_sets(benchmarks, settings_of(wildcards)).values()
        return [f"<resources>/data/{name}.lock.json" for name in names]

    return locks


def evaluated_run(wildcards):
    """The training run to evaluate; nothing for the base model."""
    return [] if wildcards.run == "base" else "<results>/train/{model}/{run}/run.json".format(**wildcards)


def evaluated_files(benchmarks):
    """What one evaluation writes: a score and a table of questions each; for HumanEval the generations."""
    scored = (f"{b}.json" for b in benchmarks if BENCHMARKS[b].kind != CODE)
    names = [*scored, *with_sidecars(map(table_name, benchmarks))]
    return [f"<results>/evaluate/{{model}}/{{run}}/{name}" for name in names]


def humaneval_lock(wildcards):
    """The lock of the HumanEval problems."""
    return f"<resources>/data/{humaneval_section(wildcards)['questions']}.lock.json"


def run_artifacts(wildcards):
    """The run.json of every run."""
    return [f"<results>/train/{r.model}/{r.arm}/seed{r.seed}/run.json" for r in STUDY.runs.values()]


def evaluation_artifacts(wildcards):
    """The evaluations of every run, and of every base model."""
    return [f"<results>/evaluate/{path}.json" for path in STUDY.evaluations()]


def probe_artifacts(wildcards):
    """The probe of every model and seed that some run needs."""
    return [f"<results>/probe/{model}/seed{seed}.json" for model, seed in STUDY.probed()]


def selection_artifacts(wildcards):
    """The selection of every run that has one."""
    runs = (run for run in STUDY.runs.values() if run.kind != "train_std")
    return [f"<results>/select/{r.model}/{r.arm}/seed{r.seed}.json" for r in runs]


def batch_plans(wildcards):
    """The plan of batches of every model and seed."""
    return [f"<results>/batches/{model}/seed{seed}.json" for model, seed in STUDY.batches]


def precision_artifacts(wildcards):
    """The measured choice of precision of every model that has one."""
    return [
        f"<results>/precision/{model}.json" for model in STUDY.used_models() if STUDY.models[model]["dtype"] == "auto"
    ]


def generation_sidecars(wildcards):
    """What wrote the programs that were judged, by every run and base model."""
    places = [path.rpartition("/") for path in STUDY.evaluations()]
    written = [(place, table_name(benchmark)) for place, _, benchmark in places if BENCHMARKS[benchmark].kind == CODE]
    return [f"<results>/evaluate/{place}/{table}.lineage.json" for place, table in written]


def stability_draws(wildcards):
    """The probes of each model's draws."""
    draws = {model: section["draws"] for model, section in stability_section(wildcards).items()}
    return [f"<results>/stability/{model}/seed{draw}.json" for model, n in draws.items() for draw in range(n)]


def paired_artifacts(wildcards):
    """The interleaved measurement of each selecting run that has a standard one beside it."""
    return [f"<results>/paired/{r.model}/{r.arm}/seed{r.seed}.json" for r in STUDY.paired()]


def attribution_artifacts(wildcards):
    """The attribution of each model whose layers some arm selects."""
    return [f"<results>/attribution/{model}/seed{run.seed}.json" for model, run in STUDY.attributed().items()]


def layers_of_figure(wildcards):
    """The table of layer scores, for the figures that show it."""
    return f"<results>/aggregate/{LAYER_TABLE}" if wildcards.figure in LAYER_FIGURES else []


def made_files(wildcards):
    """Every file that the study's rules have written, results on demand where they are there; a folder by its sidecar."""
    return bundle.made_files(STUDY, RESULTS, RESOURCES)
