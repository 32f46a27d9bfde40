"""Tar shards: what is read, what a pattern names, and every fault by the shard's name."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from ddpm.data import shards
from ddpm.data.load import load_images, open_source
from ddpm.data.names import Names
from ddpm.data.split import split_indices
from ddpm.errors import InputError
from tests.ddpm.data.archives import png, tar, write_shards

IMAGES = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 2, 3)
PNGS = [png(pixels) for pixels in IMAGES]


def rows(source: str) -> list[list[list[int]]]:
    """All pictures of a source in their order before the split."""
    data = load_images(source)
    count = len(data.train) + len(data.test)
    result = np.empty((count, *data.shape), np.uint8)
    for places, part in zip(split_indices(count), (data.train, data.test), strict=True):
        result[places.numpy()] = part
    found: list[list[list[int]]] = result[:, 0].tolist()
    return found


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_one_file_of_each_dialect(tmp_path: Path, form: int) -> None:
    # 130 letters need an extension of the header in every dialect.
    names = [f"{'d' * 65}/{'long' * 16}{i}.PNG" for i in range(6)]
    members = {"dir/.hidden.png": b"x", "readme.txt": b"x", **dict(zip(names, PNGS, strict=True))}
    path = tmp_path / "one.tar"
    path.write_bytes(tar(members, form))
    assert rows(str(path)) == IMAGES.tolist()
    assert load_images(str(path)).name == "one.tar"


@pytest.mark.parametrize(
    ("pattern", "order"),
    [
        ("shard-{00..01}.tar", [0, 1, 2, 3, 4, 5]),
        ("shard-{01,00}.tar", [3, 4, 5, 0, 1, 2]),
        ("sha*0[01].tar", [0, 1, 2, 3, 4, 5]),
        ("{s,t}hard-0{0..0}.tar", None),
        ("shard-{00..02}.tar", None),
        ("nothing*.tar", None),
        ("shard-{00,00}.tar", None),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, order: list[int] | None) -> None:
    write_shards(tmp_path / "all", IMAGES)
    source = str(tmp_path / "all" / pattern)
    if order is None:
        with pytest.raises(InputError, match=r"data = .* is not there|names each file once"):
            load_images(source)
    else:
        assert rows(source) == IMAGES[order].tolist()


def test_a_path_with_marks_of_a_pattern_may_exist(tmp_path: Path) -> None:
    path = tmp_path / "all[1]{2}.tar"
    path.write_bytes(tar({f"{i}.png": content for i, content in enumerate(PNGS)}))
    assert rows(str(path)) == IMAGES.tolist()


def test_braces_count_like_the_shell() -> None:
    expanded = list(shards._expanded("a{8..11}-{x,,y}.tar"))
    assert expanded[:4] == ["a8-x.tar", "a8-.tar", "a8-y.tar", "a9-x.tar"]
    assert len(expanded) == 12
    assert list(shards._expanded("{098..101}")) == ["098", "099", "100", "101"]


CONTENT = tar({"0.png": PNGS[0], "0.cls": b"7\n", "1.png": PNGS[1], "1.cls": b" 0"})
SECOND_HEADER = 1024


def test_classes_may_have_blanks_around_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(CONTENT)
    data = load_images(str(path))
    assert data.train_labels is not None
    assert data.test_labels is not None
    assert sorted([*data.train_labels.tolist(), *data.test_labels.tolist()]) == [0, 7]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cannot be read as a tar file: empty"),
        (b"\0" * 10240, "holds no image"),
        (tar({"a.txt": b"x"}), "holds no image"),
        (CONTENT[: SECOND_HEADER // 2 + 100], "ends beyond the file"),
        (CONTENT[:SECOND_HEADER], "no header and no end mark at byte 1024"),
        (CONTENT[: SECOND_HEADER + 99], "no header and no end mark at byte 1024"),
        (
            CONTENT[:SECOND_HEADER] + b"\1" * 512 + CONTENT[SECOND_HEADER + 512 :],
            "no header and no end mark at byte 1024",
        ),
        (tar({"0.png": PNGS[0], "0.cls": b"-1"}), r"0\.cls: b'-1': allowed is a whole number"),
        (tar({"0.png": PNGS[0], "0.cls": b"1" * 10}), r"0\.cls: b'1111111111': allowed"),
        (tar({"0.png": PNGS[0], "0.cls": b"1" + b" " * 20}), r"0\.cls: b'1': allowed"),
        (tar({"0.png": PNGS[0], "1.png": PNGS[1], "1.cls": b"1"}), r"0\.png: has no \.cls"),
        (tar({"0.png": PNGS[0], "1.png": PNGS[1][:40]}), r"1\.png: cannot be read as an image"),
        (tar({"0.png": PNGS[0]}), "number of images = 1"),
    ],
)
def test_faults_name_the_shard(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(path))
    assert "bad.tar" in str(caught.value)


def test_a_link_or_a_sparse_member_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match="holds no image"):
        load_images(str(path))


def test_a_missing_shard_after_the_index_is_named(tmp_path: Path) -> None:
    source = write_shards(tmp_path / "all", IMAGES)
    album = shards.open_shards(shards.shards_in(Path(source)), "all")
    assert album.pictures.fingerprint() is not None
    (tmp_path / "all" / "shard-01.tar").unlink()
    assert album.pictures.fingerprint() is None
    with pytest.raises(ValueError, match="No such file"):
        album.pictures.pixels(5)


def test_names_in_little_memory() -> None:
    words = ["", "a", "\udcff of no encoding", "Grüße", "a" * 1000]
    names = Names(words)
    assert list(names) == words
    assert (len(names), names[3], names[1:4:2]) == (5, "Grüße", [words[1], words[3]])
    for place in (-1, 5):
        with pytest.raises(IndexError):
            names[place]


def test_source_of_shards_beyond_memory_opens_by_its_headers(tmp_path: Path) -> None:
    source = write_shards(tmp_path / "all", IMAGES)
    data = open_source(source + "/shard-*.tar", stream=True)
    assert (data.count, data.name) == (4, "shard-*.tar")
