"""The page in a real browser: it renders, fits a phone, searches, and looks as it did before.

Run with `make browser`; it needs Chromium and its driver.
"""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from ddpm.verify.ledger import statements
from ddpm.verify.page import page
from ddpm.verify.registry import PROOFS, load
from ddpm.verify.runner import run
from ddpm.verify.verdict import select, summarise, verdicts

HERE = Path(__file__).parent
PHONE, DESK = (390, 844), (1280, 900)
SHOWN = ("T-eq2", "K-60", "K-58..59", "posterior", "gaussian", "G-45")

# Text set in another font moves by a pixel or two; blocks of 26 pixels forget that, and a block
# may differ by a tenth of the range before the layout is another one.
BLOCKS = (15, 32)
LIKENESS = 0.1


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "force-color-profile=srgb",
        "disable-background-networking", "disable-component-update", "disable-sync",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = shutil.which("chromedriver")
    assert driver, "install chromium and chromedriver: apt-get install chromium chromium-driver"
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    load()
    chosen, _ = select(list(statements()), SHOWN)
    names = sorted({name for statement in chosen for name in statement.proofs})
    judged = verdicts(chosen, [run(PROOFS[name], examples=2) for name in names], [])
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(judged, summarise(judged), 1.0), encoding="utf-8")
    return path.as_uri()


def opened(browser: Chrome, address: str, size: tuple[int, int]) -> Chrome:
    """The page afresh in a viewport of that size, as a phone or a desk shows it."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    browser.get(address)
    return browser


def visible(browser: Chrome) -> int:
    return sum(card.is_displayed() for card in browser.find_elements(By.TAG_NAME, "article"))


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_it_fits_the_width(browser: Chrome, address: str, size: tuple[int, int]) -> None:
    shown = opened(browser, address, size)
    width = shown.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]
    for summary in shown.find_elements(By.CSS_SELECTOR, "details > summary")[:8]:
        shown.execute_script("arguments[0].click()", summary)
    assert shown.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_formulas_are_laid_out(browser: Chrome, address: str) -> None:
    shown = opened(browser, address, DESK)
    sizes = shown.execute_script(
        "return [...document.querySelectorAll('math')].map(m => {"
        "const box = m.getBoundingClientRect(); return [box.width, box.height]})"
    )
    assert len(sizes) > 20
    # A line of running text is 24 pixels high; laid out formulas are wide, fractions are higher.
    assert min(width for width, _ in sizes) > 20
    assert sum(height > 40 for _, height in sizes) > 5


def test_search_and_filters(browser: Chrome, address: str) -> None:
    shown = opened(browser, address, PHONE)
    everything = visible(shown)
    assert everything > 10
    search = shown.find_element(By.ID, "search")
    search.send_keys("k-60")
    assert visible(shown) == 1
    assert "1 of" in shown.find_element(By.ID, "shown").text
    search.clear()
    search.send_keys("x")
    search.send_keys("\b")
    assert visible(shown) == everything
    shown.find_element(By.CSS_SELECTOR, "button[data-value=misprint]").click()
    misprints = visible(shown)
    assert 1 <= misprints < everything
    shown.find_element(By.CSS_SELECTOR, "button[data-value=K]").click()
    assert 1 <= visible(shown) <= misprints


def test_code_unfolds(browser: Chrome, address: str) -> None:
    shown = opened(browser, address, DESK)
    card = shown.find_element(By.ID, "K-60")
    assert "def " not in card.text
    for summary in card.find_elements(By.TAG_NAME, "summary"):
        summary.click()
    names = "def posterior_coefficients", "def denominator_of_the_last_level"
    WebDriverWait(shown, 5).until(lambda _: all(name in card.text for name in names))


def test_no_error_in_the_console(browser: Chrome, address: str) -> None:
    shown = opened(browser, address, DESK)
    log: list[dict[str, str]] = shown.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


def test_it_looks_as_before(browser: Chrome, address: str, tmp_path: Path) -> None:
    shown = opened(browser, address, PHONE)
    shown.find_element(By.ID, "search").send_keys("k-60")
    shown.execute_script("document.activeElement.blur()")
    picture = Image.open(io.BytesIO(shown.get_screenshot_as_png())).convert("RGB")
    picture.save(tmp_path / "page-phone.png")
    before = Image.open(HERE / "page-phone.png").convert("RGB")
    assert picture.size == before.size
    difference = np.abs(blocks(picture) - blocks(before))
    assert difference.max() <= LIKENESS, f"compare {tmp_path / 'page-phone.png'} with the kept one"
    # The printed form is red and the right one green.
    red, green, _ = np.moveaxis(np.asarray(picture, dtype=float), -1, 0)
    assert np.sum(red - green > 100) > 50
    assert np.sum(green - red > 60) > 50


def blocks(picture: Image.Image) -> np.typing.NDArray[np.float64]:
    """Mean brightness of blocks, from 0 to 1."""
    return np.asarray(picture.convert("L").resize(BLOCKS, Image.Resampling.BOX), float) / 255
