"""The page in headless Chromium: it draws without an error, filters, is used by keyboard, and stays quick."""

import json
import os
import re
from dataclasses import replace

import pytest
from report_cases import SHORT, TASKS, RunCase, rollout, trained

from grpo_aflow.analysis.report.command import build

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra `dev`)")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
if not os.path.exists(CHROMIUM):
    pytest.skip(
        f"needs Chromium at {CHROMIUM} (apt-get install chromium), or its path in CHROMIUM", allow_module_level=True
    )
pytestmark = pytest.mark.slow
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SECTIONS = ("overview", "training", "workflows", "evaluation", "rollouts", "setup")
WIDE, NARROW = (1440, 900), (400, 860)
PATIENCE_MS = 120_000  # where many things run at once


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(build([trained(folder / "runs")]).html)
    return folder / "report.html"


@pytest.fixture
def opened(browser):
    """Opens a page at a section; at the end nothing was complained of and nothing was asked of a network."""
    complaints, asked, contexts = [], [], []

    def opened(file, section="overview", *, size=WIDE, colours="light"):
        viewport = {"width": size[0], "height": size[1]}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=colours))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{file}#{section}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def go(page, section):
    page.click(f"nav a[href='#{section}']")
    page.wait_for_selector(f"body[data-view={section}]")


def shown(page):
    """How many rollouts the filters leave, once they have been applied."""
    page.wait_for_selector(".count[data-ms]")
    return int(page.inner_text(".count").split()[0].replace(",", ""))


@pytest.mark.parametrize(("size", "colours"), [(WIDE, "light"), (NARROW, "dark")])
def test_every_section_draws_itself(opened, report, tmp_path, size, colours):
    page = opened(report, size=size, colours=colours)
    for section in SECTIONS:
        go(page, section)
        assert page.inner_text("main").strip()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{section} is wider than the page"
        page.screenshot(path=tmp_path / f"{section}.png")
        assert (tmp_path / f"{section}.png").stat().st_size > 5_000
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(246, 245, 242)"
    assert dark == (colours == "dark")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_charts_are_drawn_and_read_by_keys(opened, report):
    page = opened(report, "training")
    assert page.locator("svg.chart").count() >= 12
    tiers = page.locator(".card", has=page.locator("h3", has_text="Tiers")).locator("svg")
    assert "tier 1.0 from 25 % to 25 %" in tiers.get_attribute("aria-label")
    tiers.focus()
    page.keyboard.press("End")
    assert "step 4" in page.inner_text("#live")
    assert "tier 1.0, 25 %" in page.inner_text("#live")


def test_filters_filter(opened, report):
    page = opened(report, "rollouts")
    assert shown(page) == 36
    page.select_option("#filter-part", "training")
    assert shown(page) == 32
    page.fill("#filter-from", "2")
    page.fill("#filter-to", "3")
    assert shown(page) == 16
    page.select_option("#filter-dataset", "gsm8k")
    assert shown(page) == 8
    page.click("button[data-tier='1']")
    assert shown(page) == 2
    page.click("button[data-tier='none']")
    assert shown(page) == 4
    page.select_option("#filter-status", "invalid")
    assert shown(page) == 2
    page.click("#filter-reset")
    assert shown(page) == 36
    page.select_option("#filter-error", "E103")
    assert shown(page) == 8
    page.click("#filter-reset")
    page.fill("#filter-text", "the REPLY to revise of Who wrote it? for member 0")  # stands in the cache alone
    assert shown(page) == 4 + 2
    page.fill("#filter-text", "nowhere to be found")
    assert shown(page) == 0


def test_a_rollout_in_detail(opened, report):
    page = opened(report, "rollouts")
    page.select_option("#filter-part", "training")
    page.locator(".rows .row").first.click()
    detail = page.locator(".detail")
    for text in ("gsm8k/1", "step 1", "exact ✓", "Gold", "last_number", "+0.60", "How many legs have three cats?"):
        assert text in detail.inner_text(), text
    assert (
        detail.locator("svg.graph").get_attribute("aria-label").startswith("operator graph: custom; review from custom")
    )
    assert detail.locator("svg.timeline .call").count() == 3
    assert "30 → 8 tok" in detail.locator("svg.timeline").text_content()
    detail.locator(".trace summary").nth(1).click()
    assert "the prompt of review of How many legs" in detail.locator(".trace").inner_text()
    assert "the reply to review of How many legs" in detail.locator(".trace").inner_text()
    assert detail.locator(".neighbour").count() == 4


def test_repairs_findings_and_neighbours(opened, report):
    page = opened(report, "rollouts")
    page.select_option("#filter-part", "training")
    page.locator(".rows .row").first.click()
    detail = page.locator(".detail")
    detail.locator(".neighbour").nth(3).click()
    assert "missing slot" in detail.inner_text()
    assert "self.custom = operator.Custom(self.llm)" in detail.locator(".code-row.added").inner_text()
    detail.locator(".neighbour").nth(2).click()
    assert "__call__ must be async" in detail.locator(".finding").inner_text()
    detail.locator("summary", has_text="Sources side by side").click()
    detail.locator(".side-by-side > div").nth(3).wait_for()
    assert detail.locator(".side-by-side > div").count() == 4


def test_the_browser_is_used_by_keyboard(opened, report):
    page = opened(report, "rollouts", size=NARROW)
    shown(page)
    page.locator(".list-body").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    first = page.url
    assert re.search(r"#rollouts/\d+$", first)
    assert page.locator(".detail").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".list-body").is_visible()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter-text"
    again = opened(report, first.rpartition("#")[2])
    assert "gsm8k/1" in again.locator(".detail h2").inner_text()


def test_several_runs_are_overlaid(opened, tmp_path):
    runs = [
        trained(tmp_path, name=f"r{rank}s{seed}", steps=2, seed=seed, lora={"rank": rank})
        for rank in (8, 16)
        for seed in (0, 1)
    ]
    (tmp_path / "report.html").write_text(build(runs).html)
    page = opened(tmp_path / "report.html")
    reward = page.locator(".card", has=page.locator("h3", has_text="Mean reward"))
    assert reward.locator("path.band").count() == 2
    assert reward.locator(".legend span").all_inner_texts() == ["rank 8 (2 seeds)", "rank 16 (2 seeds)"]
    page.select_option("#focus", "3")
    assert page.locator("tbody tr").count() == 4
    go(page, "rollouts")
    page.select_option("#filter-run", "3")
    assert shown(page) == 16 + 4


def test_a_long_run_of_many_settings_is_drawn(opened, tmp_path):
    steps = range(1, 15_001)
    lines = "".join(json.dumps({"step": step, "reward/mean": step % 7 / 7, "cost/usd": 1e-4}) + "\n" for step in steps)
    runs = []
    for rank in range(10):
        made = RunCase(tmp_path, name=f"r{rank}", lora={"rank": rank})
        (made.path / "metrics.jsonl").write_text(lines)
        runs.append(made.close())
    (tmp_path / "report.html").write_text(build(runs).html)
    page = opened(tmp_path / "report.html")
    reward = page.locator(".card", has=page.locator("h3", has_text="Mean reward"))
    assert reward.locator("path.line").count() == 10
    assert reward.locator("path.line[stroke-dasharray]").count() == 1  # there are nine colours
    assert reward.locator("text.tick.middle").last.text_content() == "15,000"


def test_steps_that_were_masked_whole_are_in_no_tier(opened, tmp_path):
    made = RunCase(tmp_path)
    for step in (1, 2):
        made.step(step)
    tiers = {f"reward/tier_{tier}": None for tier in (0.0, 0.2, 0.4, 0.7, 1.0)}
    made.run.metrics({"step": 3, "reward/mean": None, **tiers})
    (tmp_path / "report.html").write_text(build([made.close()]).html)
    page = opened(tmp_path / "report.html", "training")
    page.locator("#smooth").evaluate("node => { node.value = 1; node.dispatchEvent(new Event('change')); }")
    tiers = page.locator(".card", has=page.locator("h3", has_text="Tiers")).locator("svg")
    assert "not graded from 25 % to 25 %" in tiers.get_attribute("aria-label")


def test_long_names_of_systems_are_within_their_picture(opened, tmp_path):
    made = RunCase(tmp_path)
    figures = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "num_tasks": 9}
    (made.path / "evaluations").mkdir()
    for name in ("file:my_best_workflow_yet.py+1", "another_long_name_of_a_system_" * 3):
        (made.path / f"evaluations/{name}.json").write_text(json.dumps({**figures, "datasets": {}}))
    (tmp_path / "report.html").write_text(build([made.close()]).html)
    page = opened(tmp_path / "report.html", "evaluation")
    names = page.locator("text.row-name")
    assert sorted(len(name.evaluate("node => node.firstChild.data")) for name in names.all()) == [30, 40]
    assert all(name.evaluate("node => node.getBBox().x >= 0") for name in names.all())


def test_what_a_model_wrote_is_text(opened, tmp_path):
    evil = "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>"
    made = RunCase(tmp_path, name="evil")
    task = replace(TASKS[0], id=f"x/{evil}", dataset=evil, problem=evil, answers=(evil,))
    own = rollout(task, 0, 1.0, text=f"{SHORT}# {evil}", source=SHORT)
    own = replace(own, execution=replace(own.execution, answer=evil, reason=evil), grade=replace(own.grade, rule=evil))
    made.rollout(own, step=1, group=0, advantage=0.1)
    made.run.metrics({"step": 1, "reward/mean": 1.0, f"dataset/{evil}/exact": 1.0})
    (tmp_path / "report.html").write_text(build([made.close()], title=evil).html)
    page = opened(tmp_path / "report.html")
    for section in SECTIONS:
        go(page, section)
    go(page, "rollouts")
    page.locator(".rows .row").first.click()
    assert evil in page.locator(".detail").inner_text()
    assert page.locator("main img, main script").count() == 0
    assert page.title() != "run"


def test_what_is_missing_is_said_on_the_page(opened, tmp_path):
    run = trained(tmp_path, steps=1)
    (run / "rollouts.jsonl").write_bytes((run / "rollouts.jsonl").read_bytes()[:-300])
    (tmp_path / "report.html").write_text(build([run]).html)
    page = opened(tmp_path / "report.html")
    assert "the last line is cut off and is left out" in page.inner_text(".notices")


def test_20000_rollouts_filter_at_once(opened, tmp_path, capsys):
    """The issue wants 300 ms; printed as measured by the page itself, and held to ten times that."""
    made = RunCase(tmp_path / "runs", name="many")
    for step in range(1, 126):
        for group in range(10):
            task = replace(TASKS[group % 2], id=f"{TASKS[group % 2].dataset}/{group}")
            for member in range(16):
                text = f"{SHORT}# {step} {group} of a kind\n"
                own = rollout(task, member, (1.0, 0.2, 0.0)[member % 3], text=text, source=SHORT)
                made.run.rollout((step, group, member), own, 0.1)
    made.close()
    report = build([made.path])
    assert report.num_rollouts == 20_000
    (tmp_path / "report.html").write_text(report.html)
    page = opened(tmp_path / "report.html", "rollouts")
    assert shown(page) == 20_000
    spent = {}
    for what, act, left in (
        ("dataset", lambda: page.select_option("#filter-dataset", "gsm8k"), 10_000),
        ("steps", lambda: page.fill("#filter-from", "101"), 2_000),
        ("tier", lambda: page.click("button[data-tier='1']"), 750),
        ("all", lambda: page.click("#filter-reset"), 20_000),
        ("text", lambda: page.fill("#filter-text", "# 77 3 OF"), 16),
        ("nothing", lambda: page.fill("#filter-text", ""), 20_000),
    ):
        act()
        assert shown(page) == left, what
        spent[what] = float(page.get_attribute(".count", "data-ms"))
    with capsys.disabled():
        print(f"\n20,000 rollouts, {len(report.html) / 1e6:.1f} MB; milliseconds a filter: {json.dumps(spent)}")
    assert max(spent.values()) < 3_000
    assert page.locator(".rows .row").count() < 60
