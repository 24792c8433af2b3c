"""The page in a real browser: it renders, its switches work, nothing is fetched."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from rddrs_dist import cli
from rddrs_dist.analysis import tables
from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.methods import METHODS
from tests.small_run import Made

LABELS = {one.label: name for name, one in METHODS.items()}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRAWN = """return [...document.querySelectorAll('.plot')]
    .filter(p => p.offsetParent && p.querySelector('svg.main-svg')).length"""
SHOWN = "return [...document.querySelectorAll('.plot')].filter(p => p.offsetParent).length"
VISIBLE = """return document.querySelector('#curves .chart:not([hidden]) .plot')
    .data.filter(t => t.visible !== false).map(t => t.meta.method)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no browser: install chromium and chromium-driver to look at the page")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1200,900")
    logs = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(browser: WebDriver, original: Made, tmp_path_factory) -> WebDriver:
    out: Path = tmp_path_factory.mktemp("page") / "page.html"
    # All rows: a network of a few epochs sees little.
    flags = ["--checkpoints", str(original.checkpoint), "--images", "0", "--sighted", "1"]
    assert cli.main(["report", str(original.folder), "--out", str(out), *flags]) == 0
    browser.get(f"file://{out}")
    return browser


def until(page: WebDriver, script: str, wanted) -> None:
    """Waits until a script returns what is wanted."""
    for _ in range(100):
        if page.execute_script(script) == wanted:
            return
        time.sleep(0.1)
    assert page.execute_script(script) == wanted


@contextmanager
def phone(page: WebDriver) -> Iterator[None]:
    """A small screen and a finger."""
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        yield
    finally:
        page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def middle(page: WebDriver, selector: str) -> tuple[float, float]:
    """Scrolls something into the middle of the window; where it is then, in pixels."""
    script = """const place = document.querySelector(arguments[0]);
        place.scrollIntoView({block: 'center'});
        const box = place.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]"""
    x, y = page.execute_script(script, selector)
    return x, y


def touch(page: WebDriver, kind: str, *points: tuple[float, float]) -> None:
    """A touch as a browser gets it from a screen."""
    known = [{"x": x, "y": y} for x, y in points]
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": known})


def press(page: WebDriver, selector: str) -> None:
    """Clicks, wherever on the page that is."""
    page.execute_script("arguments[0].click()", page.find_element(By.CSS_SELECTOR, selector))


def test_every_figure_that_is_scrolled_to_is_drawn(page):
    shown = page.execute_script(SHOWN)
    assert shown > 5
    for place in page.find_elements(By.CSS_SELECTOR, ".plot"):
        page.execute_script("arguments[0].scrollIntoView()", place)
    until(page, DRAWN, shown)
    widths = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert page.execute_script(widths)


def test_a_method_can_be_switched_off_and_on(page):
    assert set(page.execute_script(VISIBLE)) == set(METHODS)
    press(page, "#methods input[data-method=ancer]")
    until(page, f"{VISIBLE}.includes('ancer')", False)
    line = page.find_element(By.CSS_SELECTOR, "#endings tr[data-method=ancer]")
    assert not line.is_displayed()
    press(page, "#methods input[data-method=ancer]")
    until(page, f"{VISIBLE}.includes('ancer')", True)
    assert line.is_displayed()


def test_without_the_best_method_the_next_best_has_the_star(page):
    stars = """return [...document.querySelectorAll('#curves .table:not([hidden]) tbody tr')]
        .filter(row => row.offsetParent && row.cells[2].matches('.best'))
        .map(row => row.cells[0].textContent)"""
    shown = """return [...document.querySelectorAll('#curves .best span')]
        .filter(star => star.offsetParent && star.closest('td').cellIndex === 2).length"""
    (first,) = page.execute_script(stars)
    press(page, f"#methods input[data-method={LABELS[first]}]")
    (second,) = page.execute_script(stars)
    assert second != first and page.execute_script(shown) == 1
    press(page, f"#methods input[data-method={LABELS[first]}]")
    assert page.execute_script(stars) == [first]


def test_cost_and_slowest_images_are_those_of_the_methods_that_are_shown(page):
    shown = """return [...document.querySelectorAll(arguments[0] + ' tbody tr')]
        .filter(row => row.offsetParent).map(row => row.cells[arguments[1]].textContent)"""
    assert page.execute_script(shown, "#cost", 0) == list(LABELS)
    slowest, *_ = page.execute_script(shown, "#slowest", 1)
    press(page, f"#methods input[data-method={LABELS[slowest]}]")
    assert slowest not in page.execute_script(shown, "#cost", 0)
    assert slowest not in page.execute_script(shown, "#slowest", 1)
    press(page, f"#methods input[data-method={LABELS[slowest]}]")


def test_another_radius_can_be_chosen(page):
    title = """return document.querySelector('#curves .chart:not([hidden]) .plot')
        .layout?.xaxis.title.text"""
    assert page.execute_script(title) == "l2 radius"
    press(page, "#sizes input[value=proxy]")
    page.execute_script("document.querySelector('#curves').scrollIntoView()")
    until(page, title, "Proxy radius R")
    shown = [
        one for one in page.find_elements(By.CSS_SELECTOR, "#curves .table") if one.is_displayed()
    ]
    assert [one.get_attribute("data-size") for one in shown] == ["proxy"]
    press(page, "#sizes input[value=l2]")
    until(page, title, "l2 radius")


def test_the_axis_can_be_logarithmic(page):
    kind = """return document.querySelector('#curves .chart:not([hidden]) .plot')
        ._fullLayout.xaxis.type"""
    assert page.execute_script(kind) == "linear"
    press(page, "#log")
    until(page, kind, "log")
    press(page, "#log")
    until(page, kind, "linear")


@pytest.mark.parametrize("share", [0.03, 0.4, 0.97])
def test_hovering_tells_what_the_curves_are_at_that_radius(page, original, share):
    place = "#curves .chart:not([hidden]) .plot"
    until(page, f"return Boolean(document.querySelector('{place}')._fullLayout)", True)
    _, y = middle(page, place)
    left, width = page.execute_script(f"""const place = document.querySelector('{place}');
        const {{ _offset, _length }} = place._fullLayout.xaxis;
        return [place.getBoundingClientRect().left + _offset, _length]""")
    at = {"type": "mouseMoved", "x": left + share * width, "y": y}
    page.execute_cdp_cmd("Input.dispatchMouseEvent", at)
    box = page.find_element(By.CSS_SELECTOR, "#curves .chart:not([hidden]) .told")
    title, *lines = box.text.splitlines()
    radius = float(title.removeprefix("radius "))
    end = page.execute_script(
        f"return document.querySelector('{place}')._fullLayout.xaxis.range[1]"
    )
    assert radius == pytest.approx(share * end, abs=2 * end / width)
    assert [line.split(":")[0] for line in lines] == list(LABELS)
    for line, one in zip(lines, read_lines([original.folder], sighted=1.0), strict=True):
        reached = sum(one.certified("l2") >= radius)
        share_of = tables.floor_to(100 * reached / 6, 1)
        assert line.startswith(f"{one.label}: {reached} of 6: {share_of:.1f} %, at least")


def test_a_histogram_tells_how_many_images_a_bin_holds(page):
    place = "#histograms .chart:not([hidden]) .plot"
    middle(page, place)
    until(page, f"return Boolean(document.querySelector('{place}')._fullLayout)", True)
    _, y = middle(page, place)
    drawn = """const place = document.querySelector(arguments[0]);
        const trace = place._fullData[0], axis = place._fullLayout.xaxis;
        const bin = [...trace.y].findLastIndex((count) => count > 0);
        const left = place.getBoundingClientRect().left + axis._offset;
        return [left + axis.d2p(trace.x[bin]), trace.y[bin], place.layout.meta.bins[bin - 1]]"""
    x, count, text = page.execute_script(drawn, place)
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    box = page.find_element(By.CSS_SELECTOR, "#histograms .chart:not([hidden]) .told")
    title, first, *_ = box.text.splitlines()
    assert title == text and first == f"RS: {count}"


def test_light_and_dark(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    colours = """return ['#methods label:last-of-type', '.strip:last-of-type'].map(one =>
        document.querySelector(one).style.getPropertyValue('--colour'))"""
    seen = []
    for value in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": value}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        until(page, ground, {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[value])
        seen += [page.execute_script(colours)]
    assert seen == [["rgba(27,127,121,1)"] * 2, ["rgba(118,178,175,1)"] * 2]
    text = """return document.querySelector('#curves .chart:not([hidden]) .plot')
        ._fullLayout.font.color"""
    until(page, text, "#e8eaed")
    press(page, "#theme")
    until(page, ground, "rgb(255, 255, 255)")
    until(page, text, "#1c2128")


def test_a_narrow_window_needs_no_scrolling_sideways(page):
    with phone(page):
        until(page, "return document.documentElement.scrollWidth <= 400", True)


@pytest.mark.parametrize("section", ["#curves", "#gallery", "#histograms"])
def test_a_finger_scrolls_past_a_figure(page, section):
    place = f"{section} .plot:not([hidden] *)"
    with phone(page):
        middle(page, place)
        drawn = f"return document.querySelector('{place}')._fullLayout?.dragmode"
        until(page, drawn, False)
        x, y = middle(page, place)
        before = page.execute_script("return scrollY")
        touch(page, "touchStart", (x, y))
        for step in range(1, 9):
            touch(page, "touchMove", (x, y - 20 * step))
        touch(page, "touchEnd")
        until(page, f"return scrollY > {before + 80}", True)


def test_nothing_was_fetched_and_nothing_complained(page):
    events = [json.loads(one["message"])["message"] for one in page.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked and all(url.startswith(("file://", "data:", "blob:")) for url in asked)
    assert sum(url.startswith("file://") for url in asked) == 1
    assert page.get_log("browser") == []
