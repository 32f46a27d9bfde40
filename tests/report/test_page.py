"""The page of a run: complete, self-contained, safe and readable without its pictures."""

import io
import json
import os
import re
from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm.config import to_json
from ddpm.errors import InputError
from ddpm.report.contents import contents, duration
from ddpm.report.embedding import MOST_PIXELS, embed
from ddpm.report.page import page
from ddpm.runs.run_folder import RunFolder
from tests.report.synthetic import CONFIG, STEPS, evaluation, make_run

EMPTY = {"meta", "link", "img", "line", "polyline", "polygon", "br", "hr", "input"}


class Reader(HTMLParser):
    """Elements with their attributes, the text, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(folder: RunFolder) -> Reader:
    reader = Reader()
    reader.feed(page(contents(folder)))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def shown(run: RunFolder) -> Reader:
    return read(run)


def test_it_says_how_far_the_run_is(shown: Reader) -> None:
    assert "4,000 of 4,000 updates in 3 min 20 s, each of 64 images from digits" in shown.text
    assert "bits/dim 1.744" in shown.text


def test_every_curve_is_there_and_told_in_words(shown: Reader) -> None:
    told = [svg["aria-label"] for svg in shown.all("svg")]
    titles = (
        "Loss", "Loss by level", "Gradient norm", "Learning rate", "Images per second",
        "Averaging", "Bits/dim of each level",
    )  # fmt: skip
    assert [words.split(". ")[0] for words in told] == list(titles)
    assert all(svg["role"] == "img" for svg in shown.all("svg"))
    # Six pictures of one curve, and one of eight.
    assert len(shown.all("polyline")) == 6 + 8
    assert told[0].startswith("Loss. 0.9")
    assert "t 1-5: " in told[1]
    assert "at update 4000" in told[1]


def test_pictures_are_inside_and_described(run: RunFolder, shown: Reader) -> None:
    images = shown.all("img")
    progress = sorted((run.samples / "progress").iterdir())
    files = [run.path / "samples.png", run.samples / "ancestral-40-seed-1-num-64.png", *progress]
    for image, file in zip(images, files, strict=True):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert b64decode(data) == file.read_bytes()
        with Image.open(file) as opened:
            assert (int(image["width"]), int(image["height"])) == opened.size
        assert len(image["alt"]) > 20
    assert images[-1]["alt"] == "Samples drawn during training, after 4,000 updates"


def test_it_asks_nothing_of_anybody(run: RunFolder, shown: Reader) -> None:
    text = page(contents(run))
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert re.findall(r"url\(|@import|//\w", re.sub('base64,[^"]*', "", text)) == []
    for tag in ("script", "link", "iframe", "object", "form", "a"):
        assert shown.all(tag) == []
    policy = next(m["content"] for m in shown.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_a_reader_without_eyes_finds_the_way(shown: Reader) -> None:
    assert shown.all("html") == [{"lang": "en"}]
    assert len(shown.all("title")) == len(shown.all("h1")) == len(shown.all("main")) == 1
    named = {heading["id"] for heading in shown.all("h2")}
    assert {section["aria-labelledby"] for section in shown.all("section")} == named
    assert {header["scope"] for header in shown.all("th")} == {"row", "col"}


def test_scores_stand_beside_what_to_compare_them_with(shown: Reader) -> None:
    assert "lower is better 1.744 histogram 2.44, gaussian 2.98, mixture 2.61" in shown.text
    assert "30.9 real training images 28.6" in shown.text
    assert "18 held-out images 16.7" in shown.text
    assert "higher is better 0.82 real training images 0.87" in shown.text
    # Whatever else an evaluation measures is shown by its name.
    assert "classifier accuracy 0.975" in shown.text


def test_the_whole_configuration_and_environment_are_there(shown: Reader) -> None:
    config = json.loads(to_json(CONFIG))
    groups = [config, *(value for value in config.values() if isinstance(value, dict))]
    names = {name for group in groups for name in group if not isinstance(group[name], dict)}
    assert len(names) > 25
    for name in names:
        assert f" {name} " in shown.text
    assert "learning_rate 0.004" in shown.text
    assert "0 cpu 2 0.1.0 2.13.0 3.11.2 Linux x86_64" in shown.text
    assert "ddpm train --run runs/digits-again --data digits" in shown.text


def test_the_same_run_gives_the_same_page(run: RunFolder) -> None:
    assert page(contents(run)) == page(contents(run))


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new")
    folder.create(CONFIG)
    shown = read(folder)
    assert "0 of 4,000 updates, each of 64 images" in shown.text
    assert "There are no curves yet" in shown.text
    assert "Not recorded by this run." in shown.text
    assert shown.all("svg") == shown.all("img") == []


def test_a_run_of_the_first_version_has_a_page(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "old")
    folder.create(CONFIG)
    for step in (20, 40):
        folder.append_metrics({"step": step, "seconds": 1.0, "loss": 1 / step})
    shown = read(folder)
    assert [svg["aria-label"].split(". ")[0] for svg in shown.all("svg")] == ["Loss"]
    assert "40 of 4,000 updates" in shown.text


def test_damage_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", evaluated=False, pictures=False)
    with folder.metrics_file.open("a") as file:
        file.write('{"step": 40')
    (folder.path / "environment.json").write_text("{")
    (folder.path / "samples.png").write_bytes(b"no picture")
    shown = read(folder)
    assert "1 line of metrics.jsonl cannot be read" in shown.text
    assert "environment.json cannot be read" in shown.text
    assert shown.all("img") == []


def test_what_others_wrote_cannot_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "<script>alert(1)</script>", pictures=False)
    evil = '"><img src=x onerror=alert(2)>'
    folder.evaluation_file.write_text(json.dumps({evil: evil}))
    shown = read(folder)
    assert shown.all("script") == shown.all("img") == []
    assert evil in shown.text


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff", b"[" * 100_000])
def test_a_broken_evaluation_names_its_file(tmp_path: Path, content: bytes) -> None:
    folder = make_run(tmp_path / "run", evaluated=False, pictures=False)
    folder.evaluation_file.write_bytes(content)
    with pytest.raises(InputError, match=r"eval\.json"):
        contents(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(data=st.data())
def test_any_evaluation_is_shown(tmp_path: Path, data: st.DataObject) -> None:
    folder = RunFolder(tmp_path)
    if not folder.exists:
        folder.create(CONFIG)
    scores = evaluation()
    for key in data.draw(st.sets(st.sampled_from(sorted(scores)), min_size=1)):
        scores[key] = data.draw(json_values)
    if isinstance(scores["terms"], dict):
        scores["terms"]["kl_by_level"] = data.draw(json_values)
    folder.evaluation_file.write_text(json.dumps(scores))
    read(folder)


def test_a_large_picture_becomes_smaller(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    Image.fromarray(np.full((40, 4000, 3), 77, np.uint8)).save(file)
    made = embed(file, "large")
    assert made is not None
    assert (made.width, made.height) == (MOST_PIXELS, 16)
    with Image.open(io.BytesIO(b64decode(made.source.partition(",")[2]))) as small:
        assert small.size == (MOST_PIXELS, 16)
        assert np.unique(np.asarray(small)).tolist() == [77]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:200], lambda b: b[:0], lambda b: b[:50] + b"\0" * 20 + b[70:]]
)
def test_a_picture_that_is_none_is_left_out(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    Image.fromarray(noise).save(file)
    assert embed(file, "x") is not None
    file.write_bytes(damage(file.read_bytes()))
    assert embed(file, "x") is None


def test_a_long_run_shows_its_first_and_last_samples(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    progress = folder.samples / "progress"
    progress.mkdir(parents=True)
    picture = Image.fromarray(np.zeros((4, 4), np.uint8))
    for step in range(100, STEPS + 1, 100):
        picture.save(progress / f"{step:08}.png")
    captions = [image["alt"].split(", ", 1)[1] for image in read(folder).all("img")]
    assert captions[0] == "after 100 updates"
    assert captions[-1] == "after 4,000 updates"
    assert len(captions) == len(set(captions)) == 6


def test_the_latest_samples_are_shown_from_files_and_from_folders(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    picture = Image.fromarray(np.zeros((4, 4), np.uint8))
    names = ["a", "b/grid", "c", "d/grid", "e"]
    for age, name in enumerate(names):
        file = folder.samples / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
        os.utime(file, (1000 + age, 1000 + age))
    picture.save(folder.samples / "b" / "00000.png")
    captions = [image["alt"].split(", ", 1)[1] for image in read(folder).all("img")]
    assert captions == ["b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"),
     (86399, "23 h 59 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_times_are_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
