"""The page in a real browser, headless: nothing is loaded, tables sort and filter, answers stand side by side.

Needs Debian's `chromium` and `chromium-driver`. With SORSA_TEST_ARTEFACTS=DIR the screenshots at both widths and the
print stay in DIR, and a missing browser is a failure.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report import conftest as made

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
EVIL = "</script><img src=x onerror=alert(1)> <b>bold</b>"
both = pytest.mark.parametrize("device", WIDTHS)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of screenshots."""
    asked = os.environ.get("SORSA_TEST_ARTEFACTS")
    folder = Path(asked) if asked else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report's page: a comparison, a single run whose answers attack, a record without texts."""
    from sorsa.report import report
    from sorsa.report.records import collect, write_records

    folder = tmp_path_factory.mktemp("page")
    made.fill_comparison(folder / "runs", ["mini_full", "mini_lora", "mini_pissa", "mini_sorsa"])
    evil = made.write_run(folder / "runs", "evil")
    made.write_test(evil, "1100" * 10, answers=[EVIL, "x" * 9000])
    bare = made.write_run(folder / "elsewhere", "bare", "lora")
    made.write_test(bare, "1010" * 10)
    write_records([collect(bare, None)], folder / "kept")
    report(folder / "runs", [folder / "kept"], folder / "report")
    return (folder / "report" / "index.html").as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium that notes every message and request."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        missing = "chromium and chromedriver are not installed (apt-get install chromium chromium-driver)"
        if os.environ.get("SORSA_TEST_ARTEFACTS"):
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # root may not use Chromium's own sandbox; containers have little /dev/shm
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument("--force-prefers-reduced-motion")  # scrolling must be over before a click
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


class Page:
    """The page in a window of one size."""

    def __init__(self, chromium: Any, address: str, device: str = "desktop") -> None:
        self.chromium = chromium
        self.width, height = WIDTHS[device]
        size = {"width": self.width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone"}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for kind in ("browser", "performance"):
            chromium.get_log(kind)  # forgets those of the page before
        chromium.get(address)

    def __getitem__(self, selector: str) -> Any:
        """Return the first element of a CSS selector."""
        return self.chromium.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """Return what is to be read in every visible element of a selector."""
        found = self.chromium.find_elements("css selector", selector)
        return [one.text for one in found if one.is_displayed()]

    def script(self, code: str) -> Any:
        """Return what JavaScript returns."""
        return self.chromium.execute_script(code)

    def choose(self, name: str, text: str) -> None:
        """Choose an option of a select element by a part of its text."""
        options = self.chromium.find_elements("css selector", f"#answers-{name} option")
        next(one for one in options if text in one.get_attribute("textContent")).click()


@pytest.fixture
def page(chromium: Any, address: str) -> Page:
    """The page at desktop width."""
    return Page(chromium, address)


@both
def test_nothing_is_loaded_and_nothing_fails(chromium: Any, address: str, device: str) -> None:
    page = Page(chromium, address, device)
    page["#answers-search"].send_keys("says")
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    urls = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith("data:")} == {address}
    assert chromium.get_log("browser") == []  # no error, no violated policy


def test_the_policy_forbids_other_scripts(page: Page) -> None:
    page.script(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.evil = 1'}))"
    )
    assert page.script("return window.evil") is None
    assert "Content Security Policy" in page.chromium.get_log("browser")[0]["message"]


@both
def test_the_page_itself_is_never_wider_than_the_window(
    chromium: Any, address: str, device: str, artefacts: Path
) -> None:
    page = Page(chromium, address, device)
    width, height = page.script(
        "const all = document.scrollingElement; return [all.scrollWidth, Math.min(all.scrollHeight, 15000)]"
    )
    assert width <= page.width
    boxes = page.script(
        "return [...document.querySelectorAll('.scroll, .plate')].map(e => e.getBoundingClientRect().right)"
    )
    assert boxes and max(boxes) <= page.width
    if device == "phone":  # what is too wide scrolls in its own box
        assert page.script("return [...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)")
    clip = {"x": 0, "y": 0, "width": page.width, "height": height, "scale": 1}
    shot = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    image = base64.b64decode(chromium.execute_cdp_cmd("Page.captureScreenshot", shot)["data"])
    (artefacts / f"report-{device}.png").write_bytes(image)
    assert len(image) > 50_000  # there is something on it


def test_tables_sort_by_mouse_and_keyboard(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    rows, table = "#table-scores-comparison-mini tbody th", "#table-scores-comparison-mini"
    first = ["base model", "mini_full", "mini_lora", "mini_pissa", "mini_sorsa"]
    assert page.texts(rows) == first
    column = _column(page, table, "gsm-8k, %")
    head, cells = f"{table} th[data-column='{column}']", f"{table} tbody td:nth-child({int(column) + 1})"
    assert page[head].get_attribute("aria-sort") == "none"
    page[f"{head} button"].click()
    values = [float(text.split()[0]) for text in page.texts(cells)]
    assert page[head].get_attribute("aria-sort") == "ascending"
    assert values == sorted(values) and page.texts(rows)[0] == "base model"
    page[f"{head} button"].send_keys(Keys.ENTER)
    assert page[head].get_attribute("aria-sort") == "descending"
    values = [float(text.split()[0]) for text in page.texts(cells)]
    assert values == sorted(values, reverse=True) and page.texts(rows)[-1] == "base model"
    other = f"{table} th[data-column='{_column(page, table, 'after')}']"
    for direction in ("ascending", "descending"):
        page[f"{other} button"].click()
        assert page[other].get_attribute("aria-sort") == direction
        assert page.texts(rows)[-1] == "base model"  # it has none: last both ways
    assert page[head].get_attribute("aria-sort") == "none"
    page[f"{table} th[data-column='0'] button"].click()
    assert page.texts(rows) == first  # words as words


def _column(page: Page, table: str, title: str) -> str:
    """Return the number of the column with a heading."""
    heads = page.chromium.find_elements("css selector", f"{table} th[data-column]")
    return next(one.get_attribute("data-column") for one in heads if one.text.startswith(title))


def test_tables_filter(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    tools, rows = "#runs .tools", "#table-runs tbody tr"
    assert len(page.texts(rows)) == 18 and "18 rows" in page[tools].text
    page[f"{tools} input"].send_keys("SEED1 mini_sorsa")
    assert [text.split()[0] for text in page.texts(rows)] == ["mini_sorsa-lr0.004-seed1"]
    assert "1 of 18 rows" in page[tools].text
    page[f"{tools} input"].send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert len(page.texts(rows)) == 18


def test_whatever_takes_the_keyboard_has_a_name_of_its_own(page: Page) -> None:
    found = page.chromium.find_elements("css selector", "input, select, [tabindex='0'], .pager button")
    names = [one.accessible_name for one in found]
    assert len(names) > 30 and all(names) and len(set(names)) == len(names)


def test_answers_stand_side_by_side(page: Page) -> None:
    page.choose("a", "mini: mini_lora-lr0.004-seed0")
    page.choose("b", "mini: mini_sorsa-lr0.004-seed2")
    assert page["#answers-status"].text == "1 to 10 of 40 questions"
    assert page.texts("#answers-list h3")[0] == "Question 1"
    assert "How many is 0?" in page["#answers-list article"].text
    assert page.texts("article:first-child pre") == [
        "mini_lora-lr0.004-seed0 says 0",
        "mini_sorsa-lr0.004-seed2 says 0",
    ]
    page["#viewer .pager button:nth-child(2)"].click()
    assert page["#answers-status"].text == "11 to 20 of 40 questions"
    assert page.texts("#answers-list h3")[0] == "Question 11"
    counts = {}
    for key in ("both right", "only A right", "only B right", "both wrong"):
        page.choose("filter", key)
        marks = [text.split(" (")[0][-5:] for text in page.texts("#answers-list h4")]
        left, right = ("right" if key in ("both right", f"only {side} right") else "wrong" for side in "AB")
        assert {(a.strip(), b.strip()) for a, b in zip(marks[::2], marks[1::2], strict=True)} == {(left, right)}
        counts[key] = int(page["#answers-status"].text.split(" of ")[1].split()[0])
        assert f"{key} ({counts[key]})" in page["#answers-filter"].text
    assert sum(counts.values()) == 40
    page.choose("filter", "all questions")
    page["#answers-search"].send_keys("many 37?")
    assert page.texts("#answers-list h3") == ["Question 38"]
    page["#answers-search"].send_keys("xyz")
    assert page["#answers-status"].text == "no question" and page.texts("#answers-list h3") == []


def test_an_answer_is_shown_as_text(page: Page) -> None:
    page.choose("a", "evil")
    page.choose("b", "bare")
    assert page.texts("article:first-child pre") == [EVIL]
    assert page.script("return document.querySelectorAll('#viewer img, #viewer b').length") == 0
    long = page["article:nth-child(2) pre"].text
    assert len(long) == 4000 + len(" … [cut]") and long.endswith("x … [cut]")
    note = page["#viewer .about"].text
    assert "Only the verdicts are here of bare" in note and "longer than 4000 characters is cut" in note
    assert "✓ right" in page["article:first-child .answer:nth-child(2)"].text


def test_light_and_dark_follow_the_system(page: Page) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    seen = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        seen.append(sum(map(int, page.script(colour)[4:-1].split(","))))
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen[0] > 700 and seen[1] < 100


def test_everything_is_printed(page: Page, artefacts: Path) -> None:
    page["#runs .tools input"].send_keys("evil")
    assert len(page.texts("#table-runs tbody tr")) == 1
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(page.texts("#table-runs tbody tr")) == 18  # a filter is a matter of the screen
    assert page.texts("nav, .tools, #answers, .pager") == []
    page.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = page.chromium.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    (artefacts / "report-print.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 5
