# What the rules share: the study as data, what binds wildcards to functions of it, and the machine that jobs run on.
import gc
import shlex
import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

# Snakemake imports pandas, which takes half as long as all else, to see whether a param is a data frame
# (persistence/__init__.py of 9.27). None of ours is. Remove this once Snakemake looks without importing.
sys.modules.setdefault("pandas", None)

PROJECT = Path(workflow.basedir)
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))

from aletheia.analysis.plan import PLAN, load_plan
from aletheia.audit import bundle
from aletheia.cluster.cost import ARMS_PER_MEASUREMENT, ATTRIBUTED_ARMS
from aletheia.cluster.site import read_site
from aletheia.controller import inputs, search_inputs
from aletheia.controller.binding import Binder, model_with_arms, one_of
from aletheia.controller.failed_jobs import failed_sentences
from aletheia.controller.fork_server import LAUNCHER
from aletheia.controller.lineage_params import lineage_params
from aletheia.controller.messages import OneSentenceFilter
from aletheia.controller.notes import NoteWatcher
from aletheia.controller.priorities import Priorities
from aletheia.controller.report_page import figure_files, mark_for_report, with_sidecars
from aletheia.controller.report_page import mark_sidecar_for_report, mark_table_for_report
from aletheia.controller.resources import JobResources, attempt_number, checkpoint_seconds, prefix_mib, tensorboard
from aletheia.controller.search_inputs import SearchInputs
from aletheia.controller.startup import Startup, use_site_cores
from aletheia.errors import UserError
from aletheia.provenance.lineage import LIBRARY, task_files
from aletheia.staging.local_paths import check_registries, count_rows
from aletheia.staging.staged_rows import staged_train_rows
from aletheia.study import sections
from aletheia.study.configuration_files import read_configuration
from aletheia.study.outputs import evaluation_outputs
from aletheia.study.paths import Paths
from aletheia.study.project_files import project_file
from aletheia.study.schema import trees
from aletheia.study.search_rungs import RUNGS as SEARCHED_RUNGS
from aletheia.study.load import load_study

# A study in a folder of its own may have a plan of its own; else it takes the project's.
PLAN = project_file(PLAN)

# First, so that a mistake in the configuration is one sentence too.
if workflow.is_main_process:
    logger.addFilter(OneSentenceFilter(lambda target: startup.explain_target(target)))

# Jobs and files of a large study are millions of objects that live to the end: looking for garbage among them less often
# took a fifth off the processor time of a dry run of 1,556 jobs (4.8 to 3.9 s), and its peak memory stayed.
gc.freeze()
gc.set_threshold(200_000, 50, 1_000)

try:
    # The files of --configfile. Snakemake has merged them by now, and kept the last of two equal keys.
    read_configuration(workflow.config_settings.configfiles)
    TREES = Paths(*trees(config))
    STUDY = load_study(config, count_rows, partial(staged_train_rows, Path(TREES.resources)))
    # Before Snakemake reports a missing file: it would name the rule that reads it, and not the registry's entry.
    check_registries(STUDY, Path(TREES.resources))
    if workflow.is_main_process and Path(PLAN).exists():
        # Read last of all, by stats: a mistake in it would come to light after hours.
        load_plan(Path(PLAN))
    SITE = read_site(config.get("site"))
except UserError as error:
    # Snakemake prints this without a traceback.
    raise WorkflowError(str(error)) from None

bind = Binder(STUDY, Paths("<results>", "<resources>"))
lineage = partial(lineage_params, bind)
machine = JobResources(STUDY, SITE, bind, lambda: workflow.cores)
minutes = machine.wall_times
priorities = Priorities(STUDY, local=SITE is None)
if SITE:
    use_site_cores(workflow, STUDY, SITE)

startup = Startup(workflow, STUDY, TREES, SITE, stand_ins=config.get("stand_ins", False))
if workflow.is_main_process:
    startup.watch()
# Steps whose logs may hold a note for the user.
notes = NoteWatcher([Path("logs") / step for step in ("stage", "tokens", "precision", "train")], logger.warning)

# Without conda, scripts run in the interpreter that runs Snakemake, activated or not; LAUNCHER starts them in it at once.
# Exported here and not written into the shell commands, since there its path would be part of what triggers reruns.
CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
if CONDA and LIBRARY != PROJECT / "workflow" / "scripts":
    raise WorkflowError(
        "--sdm conda: expected a checkout of the project, whose scripts find the library beside them, "
        "found an installed package; run without it, or from a clone"
    )
shell.prefix(
    "set -euo pipefail; "
    f"export ALETHEIA_SCRIPTS={shlex.quote(str(PROJECT / 'workflow' / 'scripts'))} "
    f"ALETHEIA_PYTHON={'python' if CONDA else shlex.quote(str(LAUNCHER))} "
    f"ALETHEIA_INTERPRETER={shlex.quote(sys.executable)}; "
)


wildcard_constraints:
    model=one_of(STUDY.models),
    data=one_of(STUDY.data),
    arm="[a-z][a-z0-9_]*",
    seed="[0-9]{1,10}",
    run="base|[a-z][a-z0-9_]*/seed[0-9]{1,10}",
