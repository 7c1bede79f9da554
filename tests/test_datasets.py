"""The splits are disjoint and the same in every run; no source is a silent substitute."""

import gzip
import hashlib
import stat
import sys

import numpy as np
import pytest
import torch
from tiny_job import Log

from pipeline.datasets import cache_folder, load_dataset
from pipeline.networks import fashion_mnist
from pipeline.reporting.progress import Reporter
from runtimes.errors import InputError


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Stand-in files with their own hashes, and no source reachable but what a test sets up."""
    folder = tmp_path / "files"
    folder.mkdir()
    hashes = {}
    for name, count in zip(fashion_mnist.SHA256, (6, 6, 4, 4), strict=True):
        sizes = (count, 2, 2) if "images" in name else (count,)
        header = bytes([0, 0, 8, len(sizes)]) + np.array(sizes, ">u4").tobytes()
        pixels = np.arange(np.prod(sizes), dtype=np.uint8).tobytes()
        (folder / name).write_bytes(gzip.compress(header + pixels))
        hashes[name] = hashlib.sha256(header + pixels).hexdigest()
    monkeypatch.setattr(fashion_mnist, "SHA256", hashes)
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "usr/share/datasets/fashion-mnist")
    mirrors = [(tmp_path / "mirror").as_uri() + "/"]
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.mirrors", mirrors)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SHOAL_DATA", raising=False)
    return folder


def test_digits_has_four_disjoint_splits_that_cover_it():
    splits = load_dataset("digits", cache=cache_folder(), reporter=Reporter(quiet=True))

    parts = [splits.train, splits.calibration, splits.validation, splits.test]
    assert [len(part) for part in parts] == [1000, 200, 200, 397]
    assert tuple(splits.train.images.shape[1:]) == (1, 8, 8)
    images = torch.cat([part.images.flatten(1) for part in parts])
    assert len(torch.unique(images, dim=0)) == 1797


def test_digits_is_the_same_in_every_run():
    first, again = (
        load_dataset("digits", cache=cache_folder(), reporter=Reporter(quiet=True))
        for _ in range(2)
    )

    assert torch.equal(first.test.images, again.test.images)
    assert torch.equal(first.train.labels, again.train.labels)


def test_digest_sees_one_changed_pixel_and_one_changed_label():
    splits = load_dataset("digits", cache=cache_folder(), reporter=Reporter(quiet=True))
    before = splits.sha256()

    splits.validation.images[0, 0, 0, 0] += 1
    with_other_pixel = splits.sha256()
    splits.test.labels[0] += 1

    assert len({before, with_other_pixel, splits.sha256()}) == 3


def test_images_are_normalised():
    splits = load_dataset("digits", cache=cache_folder(), reporter=Reporter(quiet=True))

    assert abs(float(splits.train.images.mean())) < 0.02
    assert abs(float(splits.train.images.std()) - 1) < 0.02


def test_idx_files_are_read_as_they_were_written(tiny):
    images, labels, test_images, _ = fashion_mnist.read(tiny)

    assert images.shape == (6, 2, 2)
    assert images[1].tolist() == [[4, 5], [6, 7]]
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert test_images.shape == (4, 2, 2)


def test_given_folder_comes_first_and_is_named_in_the_log(tiny, tmp_path, monkeypatch):
    log = Log()
    monkeypatch.setenv("SHOAL_DATA", str(tiny))

    assert fashion_mnist.locate(cache=tmp_path / "cache", reporter=log) == tiny
    assert str(tiny) in log.lines[0]


def test_given_folder_may_hold_the_set_in_its_own_subfolder(tiny, tmp_path, monkeypatch):
    tiny.rename(tmp_path / "fashion-mnist")
    monkeypatch.setenv("SHOAL_DATA", str(tmp_path))

    found = fashion_mnist.locate(cache=tmp_path / "cache", reporter=Log())

    assert found == tmp_path / "fashion-mnist"


def test_installed_package_comes_before_the_mirror(tiny, tmp_path):
    fashion_mnist.INSTALLED.parent.mkdir(parents=True)
    tiny.rename(fashion_mnist.INSTALLED)

    found = fashion_mnist.locate(cache=tmp_path / "cache", reporter=Log())

    assert found == fashion_mnist.INSTALLED


def test_mirror_fills_the_cache_which_then_serves(tiny, tmp_path):
    log, cache = Log(), tmp_path / "cache"
    tiny.rename(tmp_path / "mirror")

    fashion_mnist.locate(cache=cache, reporter=log)
    (tmp_path / "mirror").rename(tmp_path / "gone")
    found = fashion_mnist.locate(cache=cache, reporter=log)

    assert found == cache / "fashion-mnist"
    assert "torchvision's download" in log.lines[0]
    assert "the cache" in log.lines[1]


def test_corrupt_cached_file_is_fetched_again(tiny, tmp_path):
    log, cache = Log(), tmp_path / "cache"
    tiny.rename(tmp_path / "mirror")
    found = fashion_mnist.locate(cache=cache, reporter=log)
    spoilt = found / next(iter(fashion_mnist.SHA256))
    spoilt.write_bytes(spoilt.read_bytes()[:-1])

    fashion_mnist.check(fashion_mnist.locate(cache=cache, reporter=log))

    assert "torchvision's download" in log.lines[-1]


def test_mirror_that_serves_other_bytes_is_refused(tiny, tmp_path):
    tiny.rename(tmp_path / "mirror")
    name = next(iter(fashion_mnist.SHA256))
    (tmp_path / "mirror" / name).write_bytes(gzip.compress(b"other"))

    with pytest.raises(InputError, match=f"{name} holds other bytes"):
        fashion_mnist.locate(cache=tmp_path / "cache", reporter=Log())


@pytest.mark.parametrize("lists_present", [True, False])
def test_apt_fills_the_cache_even_without_package_lists(tiny, tmp_path, monkeypatch, lists_present):
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    refuses = (
        "" if lists_present else 'case "$1" in download) echo "E: no lists" >&2; exit 100;; esac'
    )
    updates = 'case "$*" in *update) test -d lists/partial;; *) : > set.deb;; esac'
    for name, body in {
        "apt-get": f"{refuses}\n{updates}",
        "dpkg-deb": f'to="$3{fashion_mnist.INSTALLED}"; mkdir -p "$to"; cp {tiny}/* "$to"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(stat.S_IRWXU)
    log = Log()

    found = fashion_mnist.locate(cache=tmp_path / "cache", reporter=log)

    assert found == tmp_path / "cache/fashion-mnist"
    assert {path.name for path in found.iterdir()} == set(fashion_mnist.SHA256)
    assert "apt-get" in log.lines[0]


@pytest.mark.usefixtures("tiny")
def test_when_all_sources_fail_one_error_lists_each_and_the_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_DATA", str(tmp_path / "empty"))

    with pytest.raises(InputError) as caught:
        load_dataset("fashion-mnist", cache=tmp_path / "cache", reporter=Log())

    message = str(caught.value)
    for part in ("(1) $SHOAL_DATA", "(2)", "(3) the cache", "(4) torchvision", "(5) apt-get"):
        assert part in message
    assert "there is no apt-get here" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "\n" not in message


def test_unknown_data_set_names_the_nearest():
    with pytest.raises(InputError, match="did you mean digits"):
        load_dataset("digit", cache=cache_folder(), reporter=Log())


def test_data_set_of_the_users_own_is_taken_as_it_is(tmp_path):
    (tmp_path / "own_images.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    return [(np.full((n, 3, 5, 5), n, np.float32), np.arange(n)) for n in (6, 5, 4, 3)]\n"
    )

    splits = load_dataset("own_images:make", cache=tmp_path, reporter=Log(), folders=[tmp_path])

    assert tuple(splits.train.images.shape[1:]) == (3, 5, 5)
    assert splits.num_classes == 6
    assert float(splits.test.images.mean()) == 3.0


IMAGES, LABELS = "np.zeros((2, 1, 4, 4), np.float32)", "np.zeros(2, int)"


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("None", "four .* pairs"),
        (f"3 * [({IMAGES}, {LABELS})]", "four .* pairs"),
        (f"4 * [{IMAGES}[0]]", "train: not an"),
        (f"4 * [('images', {LABELS})]", "must be arrays or tensors"),
        (f"4 * [({IMAGES}[0], {LABELS})]", r"torch.float32 \(1, 4, 4\)"),
        (f"4 * [({IMAGES}.astype('uint8'), {LABELS})]", "must be floats"),
        (f"4 * [({IMAGES} + np.nan, {LABELS})]", "NaN"),
        (f"4 * [({IMAGES}, {LABELS}[:1])]", "one whole number for each of the 2"),
        (f"4 * [({IMAGES}, {LABELS} * 1.0)]", "labels are torch.float64"),
        (f"4 * [({IMAGES}, {LABELS} - 1)]", "below 0"),
        (f"4 * [({IMAGES}[:0], {LABELS}[:0])]", "empty"),
        (f"3 * [({IMAGES}, {LABELS})] + [({IMAGES}[:, :, 1:], {LABELS})]", "differ in image shape"),
    ],
)
def test_data_set_that_cannot_be_used_says_why(tmp_path, monkeypatch, returned, says):
    (tmp_path / "bad_images.py").write_text(f"import numpy as np\ndef make(): return {returned}\n")
    monkeypatch.delitem(sys.modules, "bad_images", raising=False)

    with pytest.raises(InputError, match=says):
        load_dataset("bad_images:make", cache=tmp_path, reporter=Log(), folders=[tmp_path])


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOAL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/shoal"

    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
