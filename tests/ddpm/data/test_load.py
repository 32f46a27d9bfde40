"""Names, paths and what is neither."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from ddpm.data.load import load_images
from ddpm.errors import InputError


def test_digits_are_those_of_scikit_learn() -> None:
    data = load_images("digits")
    assert (data.name, data.levels, data.shape, data.classes) == ("digits", 17, (1, 8, 8), 10)
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.train_labels is not None
    assert data.test_labels is not None
    ours = np.concatenate((data.train, data.test)).reshape(-1, 64)
    labels = np.concatenate((data.train_labels, data.test_labels))
    truth = load_digits()
    rows = [tuple(map(int, row)) for row in truth.data]
    expected = sorted(zip(rows, truth.target.tolist(), strict=True))
    assert sorted(zip(map(tuple, ours.tolist()), labels.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    "source",
    ["", "nothing-here", "~nobody-of-this-name/x", "a\0b", "x" * 5000],
    ids=["empty", "missing", "unknown user", "zero byte", "too long"],
)
def test_unknown_sources_are_named_with_what_is_allowed(source: str) -> None:
    with pytest.raises(InputError, match="allowed is digits, fashion-mnist or the path") as caught:
        load_images(source)
    assert repr(source) in str(caught.value)


@given(source=st.text(min_size=1, max_size=30).map(lambda text: f"no-such-folder/{text}"))
@settings(deadline=None)
def test_any_text_gives_images_or_an_input_error(source: str) -> None:
    with pytest.raises(InputError):
        load_images(source)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("1,2,3")
    with pytest.raises(InputError, match=r"table\.csv.*\.npz file"):
        load_images(str(path))


def test_a_relative_path_takes_the_name_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("some.npz", images=np.zeros((5, 2, 2), np.uint8))
    assert load_images("some.npz").name == "some.npz"
    with pytest.raises(InputError, match=tmp_path.name):
        load_images(".")
