"""What tests of reports share: a figure drawn of a ledger and the words in it, a table made of one."""

import copy

import matplotlib as mpl

from aletheia.analysis import summary
from aletheia.analysis.paper_tables import load_published
from aletheia.analysis.plan import load_plan
from aletheia.provenance.lineage import ROOT
from aletheia.report import figures, plot_style
from aletheia.report.tables import TABLES

PLAN = load_plan(ROOT / "config" / "analysis.yaml")
PUBLISHED = ROOT / "config" / "published"
STYLE = {**plot_style.STYLE, "dots_per_inch": 60}


_SUMMARIES = {}


def summarise(ledger, plan=PLAN, **more):
    """Return a summary of a ledger; of one seen before a copy of it, since many tests look at the same ones."""
    if more:
        return summary.summarise(ledger, plan, **more)
    key = (plan.sha256, ledger.to_csv())
    if key not in _SUMMARIES:
        _SUMMARIES[key] = summary.summarise(ledger, plan)
    return copy.deepcopy(_SUMMARIES[key])


def table(number, ledger):
    return TABLES[number](summarise(ledger), load_published(PUBLISHED))


def draw(name, ledger):
    with mpl.rc_context(plot_style.rc(STYLE)):
        return figures.FIGURES[name](ledger, summarise(ledger), STYLE)


def words(figure):
    inside = [text.get_text() for axis in figure.axes for text in axis.texts]
    labels = [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    axes = [text for axis in figure.axes for text in (axis.get_xlabel(), axis.get_ylabel(), axis.get_title("left"))]
    return " | ".join([*(text.get_text() for text in figure.texts), *inside, *labels, *axes])
