"""The page of a run in a real browser: it fits, can be read in both lights, and asks for nothing.

Run with `make browser`; it needs Chromium and its driver.
"""

import io
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from ddpm.report.contents import contents
from ddpm.report.page import page
from tests.report.synthetic import make_run

HERE = Path(__file__).parent
PHONE, DESK = (390, 844), (1280, 900)
LIGHTS = ("light", "dark")

# Text set in another font moves by a pixel or two; blocks of 26 pixels forget that, and a block
# may differ by a tenth of the range before the layout is another one.
BLOCK = 26
LIKENESS = 0.1

# Least contrast of text, and of what is drawn, that the accessibility guidelines allow (AA).
TEXT_CONTRAST, DRAWN_CONTRAST = 4.5, 3.0

COLOURS = """
const parse = c => c.match(/[\\d.]+/g).map(Number);
const behind = e => {
  for (let n = e; n; n = n.parentElement) {
    const c = parse(getComputedStyle(n).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
  }
  return null;
};
const found = [];
for (const e of document.body.querySelectorAll("*")) {
  const style = getComputedStyle(e);
  const drawn = e.matches("polyline, .axis");
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!drawn && !own) continue;
  const ink = drawn ? style.stroke : e.closest("svg") ? style.fill : style.color;
  found.push([e.tagName + "." + (e.getAttribute("class") || ""), drawn, parse(ink).slice(0, 3),
              behind(e)]);
}
return found;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "force-color-profile=srgb",
        "disable-background-networking", "disable-component-update", "disable-sync",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = shutil.which("chromedriver")
    assert driver, "install chromium and chromedriver: apt-get install chromium chromium-driver"
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = make_run(tmp_path_factory.mktemp("report") / "digits")
    path = folder.path / "report.html"
    path.write_text(page(contents(folder)), encoding="utf-8")
    return path.as_uri()


def opened(browser: Chrome, address: str, size: tuple[int, int], light: str = "light") -> Chrome:
    """The page afresh in a viewport of that size, in a light or a dark room."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    scheme = {"features": [{"name": "prefers-color-scheme", "value": light}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get("about:blank")
    browser.get(address)
    return browser


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_it_fits_the_width(browser: Chrome, address: str, size: tuple[int, int]) -> None:
    shown = opened(browser, address, size)
    shown.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert shown.execute_script("return document.documentElement.scrollWidth") <= size[0]
    # What is wider than its place would be cut off at its edge; tables alone may be scrolled.
    beyond = shown.execute_script(
        "return [...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll') && "
        "e.getBoundingClientRect().right > innerWidth).map(e => e.tagName)"
    )
    assert beyond == []


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_letters_of_curves_can_be_read(
    browser: Chrome, address: str, size: tuple[int, int]
) -> None:
    shown = opened(browser, address, size)
    heights = shown.execute_script(
        "return [...document.querySelectorAll('svg text')].map("
        "e => e.getBoundingClientRect().height)"
    )
    assert len(heights) > 50
    assert min(heights) >= 11
    # Neighbouring numbers of an axis stand apart.
    touching = shown.execute_script(
        "const boxes = [...document.querySelectorAll('svg')].map("
        "s => [...s.querySelectorAll('text')].map(t => t.getBoundingClientRect()));"
        "return boxes.flatMap(b => b.flatMap((p, i) => b.slice(i + 1).filter(q => "
        "p.left < q.right && q.left < p.right && p.top + 2 < q.bottom && q.top + 2 < p.bottom)))"
        ".length"
    )
    assert touching == 0


def test_pictures_are_shown(browser: Chrome, address: str) -> None:
    shown = opened(browser, address, PHONE)
    widths = shown.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(widths) == 6
    assert min(widths) > 100


@pytest.mark.parametrize("light", LIGHTS)
def test_there_is_contrast(browser: Chrome, address: str, light: str) -> None:
    shown = opened(browser, address, DESK, light)
    found = shown.execute_script(COLOURS)
    assert len(found) > 150
    assert sum(drawn for _, drawn, _, _ in found) > 14
    for name, drawn, ink, paper in found:
        least = DRAWN_CONTRAST if drawn else TEXT_CONTRAST
        assert contrast(ink, paper) >= least, f"{name}: {ink} on {paper}"
    assert (luminance(found[0][3]) > 0.5) == (light == "light")


def luminance(colour: list[float]) -> float:
    """Relative luminance of an sRGB colour of 0..255, as the accessibility guidelines define it."""
    part = np.asarray(colour) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast ratio of two colours, 1..21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_right() -> None:
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([119, 119, 119], [255, 255, 255]) == pytest.approx(4.48, abs=0.01)


def test_nothing_is_asked_of_anybody(browser: Chrome, address: str) -> None:
    browser.get_log("performance")
    shown = opened(browser, address, DESK)
    asked = [
        entry["message"]
        for entry in shown.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert any(address in message for message in asked)
    assert [m for m in asked if "http://" in m.split('"url":"')[-1] or "https://" in m] == []
    log: list[dict[str, str]] = shown.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


def test_numbers_unfold(browser: Chrome, address: str) -> None:
    shown = opened(browser, address, PHONE)
    table = shown.find_element(By.CSS_SELECTOR, "details table")
    assert not table.is_displayed()
    shown.find_element(By.TAG_NAME, "summary").click()
    assert table.is_displayed()
    assert len(table.find_elements(By.CSS_SELECTOR, "tbody tr")) == 8


@pytest.mark.parametrize(("size", "light"), [(PHONE, "light"), (DESK, "dark")])
def test_it_looks_as_before(
    browser: Chrome, address: str, tmp_path: Path, size: tuple[int, int], light: str
) -> None:
    shown = opened(browser, address, size, light)
    area = {"x": 0, "y": 0, "width": size[0], "height": 1560, "scale": 1}
    taken = shown.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": area, "captureBeyondViewport": True}
    )
    picture = Image.open(io.BytesIO(b64decode(taken["data"]))).convert("RGB")
    name = f"report-{size[0]}-{light}.png"
    picture.save(tmp_path / name)
    before = Image.open(HERE / name).convert("RGB")
    assert picture.size == before.size
    difference = np.abs(blocks(picture) - blocks(before))
    assert difference.max() <= LIKENESS, f"compare {tmp_path / name} with the kept one"


def blocks(picture: Image.Image) -> np.typing.NDArray[np.float64]:
    """Mean brightness of blocks, from 0 to 1."""
    size = (picture.width // BLOCK, picture.height // BLOCK)
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), float) / 255
