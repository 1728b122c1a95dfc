# Aletheia: gradient-guided layer selection for LoRA, run and audited.
# The order of the includes is the order of the study.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


pathvars:
    results="results",
    resources="resources",


include: "rules/common.smk"
include: "rules/stage.smk"
include: "rules/tokens.smk"
include: "rules/probe.smk"
include: "rules/select.smk"
include: "rules/stability.smk"
include: "rules/train.smk"
include: "rules/interleaved.smk"
include: "rules/evaluate.smk"
include: "rules/aggregate.smk"
include: "rules/stats.smk"
include: "rules/replication.smk"
include: "rules/controls.smk"
include: "rules/search.smk"
include: "rules/fit.smk"
include: "rules/figures.smk"
include: "rules/evidence.smk"
include: "rules/cluster.smk"


localrules:
    all,
    attribution,
    bundle,
    controls,
    evidence,
    fit,
    leonardo_smoke,
    paired,
    replication,
    search,
    stability,
    stage,
    stage_model,
    stage_data,


rule all:
    default_target: True
    input:
        bind(inputs.study_targets),


onstart:
    startup.begin()
    notes.start()


onsuccess:
    notes.look()


onerror:
    notes.look()
    for sentence in failed_sentences(log):
        print(sentence, file=sys.stderr)
