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
include: "rules/sections.smk"
include: "rules/resources.smk"
include: "rules/paths.smk"
include: "rules/controller.smk"
include: "rules/stage.smk"
include: "rules/probe.smk"
include: "rules/select.smk"
include: "rules/stability.smk"
include: "rules/train.smk"
include: "rules/interleaved.smk"
include: "rules/evaluate.smk"
include: "rules/aggregate.smk"
include: "rules/stats.smk"
include: "rules/figures.smk"
include: "rules/evidence.smk"
include: "rules/cluster.smk"


localrules:
    all,
    attribution,
    bundle,
    evidence,
    leonardo_smoke,
    paired,
    stability,
    stage,
    stage_model,
    stage_data,


rule all:
    default_target: True
    input:
        study_targets,


# Runs whose arms are timed must have the machine to themselves: one controller a folder. What is staged must have room,
# all of it, and a token where it is gated, before the first byte comes. And on a cluster nothing is submitted that is
# there already, or would be refused.
onstart:
    hold_folder()
    hold_results()
    look_at_events_alone()
    check_stand_ins()
    check_downloads()
    meet_cluster()
    NOTES.start()


onsuccess:
    NOTES.look()


# The sentences that scripts ended with stand in the logs; say them last, where they are read.
onerror:
    NOTES.look()
    for sentence in failed_sentences(log):
        print(sentence, file=sys.stderr)
