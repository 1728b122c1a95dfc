"""What was stated before the results: margins of equivalence, families of tests, and when git says they were stated.

The file is ``config/analysis.yaml``; its keys are described in ``workflow/schemas/analysis.schema.yaml``.
"""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from aletheia.analysis.benchmarks import stem_of
from aletheia.errors import UserError
from aletheia.provenance.artifacts import sha256_file
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.schema import at, read_validated

PLAN = "config/analysis.yaml"  # the study's
TIME = "time"
MEASURES = (TIME, *map(stem_of, BENCHMARKS))
Unit = Literal["points", "nats", "log_ratio"]


@dataclass(frozen=True)
class Margins:
    """Differences below which two arms count as equivalent.

    Attributes
    ----------
    points
        Of a benchmark, in percentage points, ascending; each is reported.
    verdict_points
        The one of them that verdicts take.
    nats
        Of a loss.
    time_percent
        Of a time, in percent of it.
    """

    points: tuple[float, ...]
    verdict_points: float
    nats: float
    time_percent: float


@dataclass(frozen=True)
class Families:
    """Which tests are counted together.

    Attributes
    ----------
    primary
        Measures (of :data:`MEASURES`) whose tests over headline models are one family, by Holm.
    false_discovery_rate
        Of the results of single models, by Benjamini and Hochberg; their intervals have this false coverage rate.
    """

    primary: tuple[str, ...]
    false_discovery_rate: float


@dataclass(frozen=True)
class AssumedVariation:
    """What a campaign's power is planned with before there are results: standard deviations of an arm's extra.

    Attributes
    ----------
    seed_sd_points, model_sd_points
        Between seeds of one model, and between the models' true values, in percentage points.
    discordance
        Share of questions, 0 to 1, that two arms of one model answer differently.
    seed_sd_nats, model_sd_nats
        The same of a loss.
    seed_sd_log_time, model_sd_log_time
        The same of the logarithm of a ratio of times.
    """

    seed_sd_points: float
    model_sd_points: float
    discordance: float
    seed_sd_nats: float
    model_sd_nats: float
    seed_sd_log_time: float
    model_sd_log_time: float


@dataclass(frozen=True)
class Power:
    """The power that a campaign should have, 0 to 1, and what is assumed to plan it."""

    wanted: float
    assumed: AssumedVariation


@dataclass(frozen=True)
class Priors:
    """Of the Bayesian reading: the scale of the models' spread as a multiple of the verdict's margin."""

    tau_over_margin: float


@dataclass(frozen=True)
class Bootstrap:
    """Number of draws of the bootstrap, and their seed."""

    draws: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """The plan of the analysis, nested as its file is.

    Attributes
    ----------
    path, sha256
        The file as it was named, and the hash of its bytes.
    """

    path: str
    sha256: str
    margins: Margins
    families: Families
    power: Power
    priors: Priors
    bootstrap: Bootstrap

    def margin_of(self, measure_unit: Unit) -> float:
        """Return the margin m of the verdicts in a unit; equivalence is shown between −m and m.

        Of ``log_ratio``, the logarithm of a ratio of times, m is log(1 + t) with t the margin of time.
        """
        margins = self.margins
        time = math.log1p(margins.time_percent / 100)
        return {"points": margins.verdict_points, "nats": margins.nats, "log_ratio": time}[measure_unit]


def load_plan(path: Path) -> Plan:
    """Read the plan of the analysis.

    Raises
    ------
    UserError
        When the file is missing or no YAML, does not fit its schema, names an unknown measure, or a margin of the
        verdicts that is none of those reported.
    """
    path = Path(path)
    content = read_validated(path, "analysis")
    margins, families, power = content["margins"], content["families"], content["power"]
    points = tuple(sorted(margins["points"]))
    if margins["verdict_points"] not in points:
        raise UserError(
            f"{at(path, 'margins', 'verdict_points')}: expected one of the margins in points "
            f"({', '.join(map(str, points))}), found {margins['verdict_points']}"
        )
    unknown = next((name for name in families["primary"] if name not in MEASURES), None)
    if unknown is not None:
        place = at(path, "families", "primary")
        raise UserError(f"{place}: expected measures, of {', '.join(MEASURES)}, found {unknown!r}; use these names")
    return Plan(
        path=path.as_posix(),
        sha256=sha256_file(path),
        margins=Margins(**{**margins, "points": points}),
        families=Families(**{**families, "primary": tuple(families["primary"])}),
        power=Power(power["wanted"], AssumedVariation(**power["assumed"])),
        priors=Priors(**content["priors"]),
        bootstrap=Bootstrap(**content["bootstrap"]),
    )


@dataclass(frozen=True)
class PlanHistory:
    """When a plan was stated, as git has it.

    Attributes
    ----------
    commit
        The last one that changed the file.
    committed_at
        Its date in UTC, ISO 8601; who commits can set it.
    modified
        Whether the file differs from that commit.
    """

    commit: str
    committed_at: str
    modified: bool


def plan_history(path: Path) -> PlanHistory | None:
    """Return when a plan was stated; None outside git, without its command, or where git does not know the file.

    Neither does it in a shallow clone whose oldest commit is the one found: an older one may have stated it.
    """
    path = Path(path).resolve()
    last = _git(path, "-c", "log.showSignature=false", "log", "-1", "--format=%H,%cI,%P", "--", path.name)
    if not last:
        return None
    commit, date, parents = last.split(",")
    if not parents and _git(path, "rev-parse", "--is-shallow-repository") != "false":
        return None
    committed, present = _git(path, "rev-parse", f"{commit}:./{path.name}"), _git(path, "hash-object", path.name)
    if committed is None or present is None:
        return None
    utc = datetime.fromisoformat(date).astimezone(UTC).isoformat(timespec="seconds")
    return PlanHistory(commit, utc, modified=committed != present)


def _git(path: Path, *arguments: str) -> str | None:
    """Return what git says in the folder of a file; None where it fails or is not there."""
    command = ["git", "-C", str(path.parent), "--literal-pathspecs", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def margins_stated(
    history: PlanHistory | None, measured_at: str | None
) -> Literal["beforehand", "afterwards", "unknown"]:
    """Tell whether margins were stated before the first result was known.

    Parameters
    ----------
    history
        Of their file.
    measured_at
        When the earliest of the runs ended (the ledger's ``ended``), ISO 8601 with its offset; None where that is not
        known.

    Returns
    -------
    str
        ``afterwards`` where that is before the commit, or the file was edited after it; ``unknown`` where either is
        not known.
    """
    if history is None or measured_at is None:
        return "unknown"
    late = datetime.fromisoformat(measured_at) < datetime.fromisoformat(history.committed_at)
    return "afterwards" if late or history.modified else "beforehand"
