"""Fashion-MNIST's four files, from the first source that has exactly the known bytes.

    $SHOAL_DATA -> Debian's package, installed -> the cache -> torchvision's mirror -> apt-get

Every file is checked against its SHA-256, wherever it comes from: a plan chosen on other images
than the recipe says would be wrong in silence. The sum is of the unpacked bytes, because Debian
repacks the originals (without their names and dates). What is fetched goes into the cache, each
file written aside and renamed, so that an interrupted fetch leaves no half file behind.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from urllib.request import urlopen

import numpy as np
import torchvision

from pipeline.networks.sources import SourceFailed, Sources, first_that_serves, run
from pipeline.reporting.progress import Reporter

SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}
PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
CONNECT_TIMEOUT_S = 10
DOWNLOAD_TIMEOUT_S = 600

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def locate(*, cache: Path, reporter: Reporter) -> Path:
    """The folder that holds the four files, fetched into `cache` if no other place has them."""
    given = os.environ.get("SHOAL_DATA")
    kept = cache / "fashion-mnist"
    sources: Sources = [
        (f"$SHOAL_DATA ({given or 'not set'})", lambda: _given(given)),
        (f"{INSTALLED} (Debian package {PACKAGE})", lambda: check(INSTALLED)),
        (f"the cache {kept}", lambda: check(kept)),
        ("torchvision's download", lambda: _download(kept)),
        (f"apt-get download {PACKAGE}", lambda: _apt(kept)),
    ]
    return first_that_serves(
        "fashion-mnist",
        sources,
        proof="4 files with the known SHA-256",
        remedy=f"Install it (apt-get install {PACKAGE}), or set SHOAL_DATA to a folder that holds "
        + ", ".join(SHA256),
        reporter=reporter,
    )


def check(folder: Path) -> Path:
    """`folder` itself, if it has the four files with the known bytes."""
    for name, known in SHA256.items():
        path = folder / name
        if not path.is_file():
            raise SourceFailed(f"there is no {name}")
        try:
            content = gzip.decompress(path.read_bytes())
        except (EOFError, OSError, zlib.error) as e:
            raise SourceFailed(f"{name} cannot be unpacked: {e}") from e
        if hashlib.sha256(content).hexdigest() != known:
            raise SourceFailed(f"{name} holds other bytes than the known SHA-256 {known[:12]}...")
    return folder


def read(folder: Path) -> Arrays:
    """Train images (n, 28, 28) and labels (n,), then the test ones, as uint8."""
    train_images, train_labels, test_images, test_labels = (_idx(folder / name) for name in SHA256)
    return train_images, train_labels, test_images, test_labels


def _idx(path: Path) -> np.ndarray:
    # IDX: 0, 0, 8 (unsigned bytes), number of dimensions; each size as 4 big-endian bytes; values.
    content = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes.astype(int))


def _given(folder: str | None) -> Path:
    if not folder:
        raise SourceFailed("names no folder")
    inside = Path(folder) / "fashion-mnist"
    return check(inside if inside.is_dir() else Path(folder))


def _download(kept: Path) -> Path:
    # torchvision's own addresses, but with a timeout, its progress bars left out, and SHA-256
    # where it checks MD5.
    kept.mkdir(parents=True, exist_ok=True)
    for name in SHA256:
        reasons = []
        for mirror in torchvision.datasets.FashionMNIST.mirrors:
            try:
                _fetch(mirror + name, kept / name)
                break
            except (OSError, HTTPException) as e:
                reasons.append(f"{mirror}{name}: {e}")
        else:
            raise SourceFailed("; ".join(reasons))
    return check(kept)


def _fetch(address: str, path: Path) -> None:
    deadline = monotonic() + DOWNLOAD_TIMEOUT_S
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        part = Path(aside) / path.name
        with urlopen(address, timeout=CONNECT_TIMEOUT_S) as response, part.open("wb") as out:
            while chunk := response.read(1 << 16):
                if monotonic() > deadline:
                    raise TimeoutError(f"not finished after {DOWNLOAD_TIMEOUT_S} s")
                out.write(chunk)
        part.replace(path)


def _apt(kept: Path) -> Path:
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            raise SourceFailed(f"there is no {command} here")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as aside:
        folder = Path(aside)
        try:
            run(["apt-get", "download", PACKAGE], folder, complaint="E:")
        except SourceFailed:  # a fresh machine has no package lists: fetch some of our own
            (folder / "lists/partial").mkdir(parents=True)
            own = ["-o", f"Dir::State::Lists={folder / 'lists'}", "-o", "APT::Sandbox::User="]
            run(["apt-get", *own, "update"], folder, complaint="E:")
            run(["apt-get", *own, "download", PACKAGE], folder, complaint="E:")
        packages = list(folder.glob("*.deb"))
        if not packages:
            raise SourceFailed("apt-get ended well but left no package")
        run(["dpkg-deb", "-x", str(packages[0]), "unpacked"], folder, complaint="E:")
        unpacked = check(folder / "unpacked" / INSTALLED.relative_to("/"))
        for name in SHA256:
            (unpacked / name).replace(kept / name)
    return check(kept)
