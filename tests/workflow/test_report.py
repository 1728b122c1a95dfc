"""The report page opens in a browser from one file: no request leaves, nothing goes wrong, figures are there to see."""

import base64
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import STUDY, copy_study, missing, said, snakemake

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FIGURES = ["fig1", "fig2", "fig3", "fig4", "fig5", "figS1", "figS2", "figS4", "figS5"]
SIDECARS = [
    *(f"results/figures/{name}.svg.lineage.json" for name in FIGURES),
    *(
        f"results/tables/table{number}.{suffix}.lineage.json"
        for number in (*range(1, 6), "S1")
        for suffix in ("csv", "md", "tex")
    ),
    "results/stats/arms.csv.lineage.json",
    "results/stats/FINDINGS.md.lineage.json",
    "results/aggregate/curves.csv.lineage.json",
    "results/stats/FORGETTING_DELTAS_ANALYSIS.md.lineage.json",
    "results/aggregate/ledger.csv.lineage.json",
]
# How wide a picture is, and how wide it is shown.
SIZES = """async image => {
    await image.decode();
    return {wide: image.naturalWidth, shown: image.getBoundingClientRect().width, source: image.src};
}"""
ELSEWHERE = "http://elsewhere.invalid/picture.png"
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "devtools:")


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    """Return the tiny study's report page."""
    folder = tmp_path_factory.mktemp("report") / "study"
    copy_study(finished, folder)
    done = snakemake(folder, *STUDY, "--report", "results/report.html")
    assert done.returncode == 0, said(done)[-3000:]
    return folder / "results" / "report.html"


@pytest.fixture(scope="module")
def visit(report, tmp_path_factory):
    """Open every category and every figure, as a reader does; return what was seen, and what the browser noted."""
    if CHROMIUM is None:
        missing("Chromium", "install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    netlog = tmp_path_factory.mktemp("browser") / "netlog.json"
    # Every name resolves to nothing, so that a request that tried to leave would also fail where there is a network.
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={netlog}"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    seen = SimpleNamespace(
        requests=[], errors=[], first="", lists={}, images={}, captions={}, screenshots={}, sidecars={}
    )
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.goto(report.as_uri())
        page.get_by_text("Figures", exact=True).wait_for()
        seen.first = page.inner_text("#app")
        for category in ("Analyses", "Ledgers", "Tables"):
            seen.lists[category] = opened(page, report, category).inner_text("#app")
        rows = opened(page, report, "Lineage").locator("tbody tr")
        for name in SIDECARS:
            links = rows.filter(has=page.get_by_text(Path(name).name, exact=True)).locator("a")
            seen.sidecars[name] = links.first.get_attribute("href")
        rows = opened(page, report, "Tables").locator("tbody tr")
        rows.filter(has=page.get_by_text("table2.md", exact=True)).locator("a").last.click()
        page.get_by_text("Table 2.").wait_for()
        seen.captions["table2"] = page.inner_text("#app")
        for name in FIGURES:
            row = opened(page, report, "Figures").locator("tbody tr").filter(has=page.get_by_text(name, exact=True))
            show, explain = row.locator("a").all()
            show.click()
            image = page.locator(f"#app img[src*='filename={name}.svg']")
            image.wait_for()
            seen.images[name] = image.evaluate(SIZES)
            seen.screenshots[name] = page.screenshot()
            explain.click()
            page.get_by_text("down to weights and data").wait_for()
            seen.captions[name] = page.inner_text("#app")
        # A page that does reach out, to show that the log would tell.
        other = browser.new_page()
        other.set_content(f"<img src='{ELSEWHERE}'>")
        other.wait_for_load_state("networkidle")
        browser.close()
    seen.netlog = json.loads(netlog.read_text(encoding="utf-8"))
    return seen


def opened(page, report, category):
    """Return the page with a category's list open."""
    page.goto(report.as_uri())
    page.get_by_text(category, exact=True).first.click()
    page.locator("tbody tr").first.wait_for()
    return page


def test_no_request_leaves_the_page(report, visit):
    assert report.as_uri() in visit.requests
    assert [url for url in visit.requests if not url.startswith(LOCAL)] == []
    # The same from below: what pages asked the browser's network stack for. Its own business is asked by no page.
    start = visit.netlog["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [e["params"] for e in visit.netlog["events"] if e["type"] == start and "url" in e.get("params", {})]
    assert {a["url"] for a in asked if a["initiator"] != "not an origin"} == {ELSEWHERE}


def test_nothing_goes_wrong_on_the_page(visit):
    assert visit.errors == []


def test_the_first_page_says_what_was_found_and_what_the_study_is(report, visit):
    found = (report.parent / "stats" / "FINDINGS.md").read_text(encoding="utf-8")
    sentences = [line.partition(". ")[2].replace("**", "") for line in found.splitlines() if line[:1].isdigit()]
    assert len(sentences) == 6
    assert all(sentence in visit.first for sentence in sentences)
    assert visit.first.index(sentences[0]) < visit.first.index(sentences[5]) < visit.first.index("Which layers of a")
    assert "Which layers of a language model should carry LoRA adapters?" in visit.first
    assert "stage → probe → select → train → evaluate → aggregate → stats → figures" in visit.first


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_there_to_see(visit, name):
    image = visit.images[name]
    assert image["wide"] > 300
    assert image["shown"] > 300
    assert len(visit.screenshots[name]) > 20_000
    others = [other["source"] for key, other in visit.images.items() if key != name]
    assert image["source"] not in others


@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_names_the_sidecar(visit, name):
    assert f"results/figures/{name}.svg.lineage.json" in visit.captions[name]


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_is_saved_from_the_page(report, visit, name):
    kind, _, content = visit.sidecars[name].partition(";base64,")
    assert kind.startswith("data:application/json")
    assert base64.b64decode(content) == (report.parents[1] / name).read_bytes()


def test_tables_ledgers_and_analyses_are_listed(visit):
    assert "FORGETTING_DELTAS_ANALYSIS.md" in visit.lists["Analyses"]
    assert "ledger.csv" in visit.lists["Ledgers"]
    assert "answers.parquet" not in visit.lists["Ledgers"]
    assert all(f"table{number}.md" in visit.lists["Tables"] for number in (*range(1, 6), "S1"))
    assert "arms.csv" in visit.lists["Tables"]


def test_a_table_is_there_to_read(report, visit):
    table = (report.parent / "tables" / "table2.md").read_text(encoding="utf-8")
    for line in filter(None, table.splitlines()):
        assert line.strip() in visit.captions["table2"]
