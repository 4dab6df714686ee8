"""The report in a real browser: no console message, no request, no overflow, in light and in dark mode."""

import pytest

from amc_tf.report import page
from tests.report import browser, runs
from tests.report.test_page import HOSTILE, full

WIDER = "document.documentElement.scrollWidth - innerWidth"
PAPER = "getComputedStyle(document.body).backgroundColor"
# Counts unit names that overlap, and texts that leave their picture.
CROWDED = """(() => {
  const boxes = [...document.querySelectorAll('svg.units text')].map(t => t.getBoundingClientRect());
  let hits = 0;
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
    hits += a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1; }));
  document.querySelectorAll('svg').forEach(svg => svg.querySelectorAll('text').forEach(t => {
    const a = t.getBoundingClientRect(), b = svg.getBoundingClientRect();
    hits += a.left < b.left - 2 || a.right > b.right + 2 || a.bottom > b.bottom + 2 || a.top < b.top - 2; }));
  return hits;
})()"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    path = browser.program()
    if path is None:
        pytest.skip(f"none of {', '.join(browser.PROGRAMS)} is installed, in which the report would be opened")
    started = browser.Browser(path, tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    run_dirs = {
        "full": full(folder / "full", free=50, names=HOSTILE),
        "big": runs.run(folder / "big", free=250, tried=1000),
    }
    return {name: page.write(run).as_uri() for name, run in run_dirs.items()}


@pytest.mark.parametrize(("name", "width"), [("full", 1100), ("full", 390), ("big", 1100)])
def test_the_page_is_quiet_and_fits(chromium, pages, name, width):
    with chromium.visit(pages[name], width) as visit:
        assert visit.complaints == [] and visit.requests == [pages[name]]
        assert visit.evaluate(WIDER) <= 0 and visit.evaluate(CROWDED) == 0


def test_light_and_dark(chromium, pages):
    papers = []
    for dark in (False, True):
        with chromium.visit(pages["full"], dark=dark) as visit:
            assert visit.complaints == []
            papers.append(visit.evaluate(PAPER))
    assert papers == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_console_messages_and_requests_are_recorded(chromium, tmp_path):
    loud = tmp_path / "loud.html"
    loud.write_text(
        "<!DOCTYPE html><link rel=stylesheet href=missing.css><p style='width:2000px'>x</p>"
        "<script>console.error('told'); throw new Error('thrown')</script>"
    )
    with chromium.visit(loud.as_uri()) as visit:
        assert "['told']" in visit.complaints and "Uncaught" in visit.complaints
        assert visit.requests == [loud.as_uri(), (tmp_path / "missing.css").as_uri()]
        assert visit.evaluate(WIDER) > 0
