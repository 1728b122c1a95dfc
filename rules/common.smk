# What the rules share: the study as data, and the one `lineage` that each rule passes to its script.
import gc
import inspect
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

PROJECT = Path(workflow.basedir)
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))

from aletheia.study.schema import trees
from aletheia.study.configuration_files import read_configuration
from aletheia.errors import UserError
from aletheia.provenance.lineage import code_tokens, compact_json, file_digest, task_files
from aletheia.staging.local_paths import check_registries, count_rows
from aletheia.controller.messages import OneSentence
from aletheia.study.study import load_study

# First, so that a mistake in the configuration is one sentence too.
if workflow.is_main_process:
    logger.addFilter(OneSentence(lambda target: explain_target(target)))

# Jobs and files of a large study are millions of objects that live to the end: looking for garbage among them less often
# took a fifth off the processor time of a dry run of 1,556 jobs (4.8 to 3.9 s), and its peak memory stayed.
gc.freeze()
gc.set_threshold(200_000, 50, 1_000)


def given_configfiles():
    """The files of --configfile, in the spelling that a sentence names them by."""
    given = map(Path, workflow.config_settings.configfiles)
    return [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in given]


try:
    # Snakemake has merged them by now, and kept the last of two equal keys.
    read_configuration(given_configfiles())
    STUDY = load_study(config, count_rows)
    RESULTS, RESOURCES = trees(config)
    # Before Snakemake misses a file: it would name the rule that reads it, and not the registry that says so.
    check_registries(STUDY, Path(RESOURCES))
except UserError as error:
    # Snakemake prints this without a traceback.
    raise WorkflowError(str(error)) from None

# Without conda the interpreter that runs Snakemake runs the scripts, activated or not. Exported here and not written
# into the shell commands, since there its path would be part of what triggers reruns.
CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
shell.prefix(
    "set -euo pipefail; "
    f"export ALETHEIA_SCRIPTS={shlex.quote(str(PROJECT / 'workflow' / 'scripts'))} "
    f"ALETHEIA_PYTHON={'python' if CONDA else shlex.quote(sys.executable)}; "
)
SIGNATURE = inspect.signature(lambda wildcards: None)


wildcard_constraints:
    model="|".join(map(re.escape, STUDY.models)),
    data="|".join(map(re.escape, STUDY.data)),
    arm="[a-z][a-z0-9_]*",
    seed="[0-9]{1,10}",
    run="base|[a-z][a-z0-9_]*/seed[0-9]{1,10}",


def environment_token(name):
    """The digest of a rule's environment file."""
    path = PROJECT / "envs" / f"{name}.yaml"
    return f"env:envs/{name}.yaml={file_digest(path)}"


def lineage(script, env, extra=(), **sections):
    """One string for each module that a script reaches, for its environment, and for each section of its settings.

    They are a rule's params. Snakemake compares these as a set: its dry run then names just the module or section that
    differs. A section is a function of the wildcards.
    """

    def token(name, section):
        def of(wildcards):
            return f"config:{name}={compact_json(section(wildcards))}"

        # Without it Snakemake works it out at each call, which is a twentieth of a large dry run.
        of.__signature__ = SIGNATURE
        return of

    settings = [token(name, section) for name, section in sections.items()]
    return [*code_tokens(script, extra), environment_token(env), *settings]


def run_of(wildcards):
    """The run that the wildcards name."""
    key = (wildcards.model, wildcards.arm, int(wildcards.seed))
    if key not in STUDY.runs:
        seeds = sorted(seed for model, arm, seed in STUDY.runs if (model, arm) == key[:2])
        raise WorkflowError(
            f"{key[0]}/{key[1]}/seed{key[2]}: expected a run of some campaign (that arm has the seeds "
            f"{', '.join(map(str, seeds)) or 'of other models'}), found none of that name"
        )
    return STUDY.runs[key]


def settings_of(wildcards):
    """What all runs of a model share: its data, probe, encoding, benchmarks and their evaluation."""
    return STUDY.shared[wildcards.model]


def arms_of(kind):
    """A pattern of the arms that one of the training rules makes; one that never matches where there is none."""
    arms = sorted({run.arm for run in STUDY.runs.values() if run.kind == kind})
    return "|".join(arms) or "(?!)"
