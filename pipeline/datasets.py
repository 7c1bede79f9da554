"""Data sets by name, of images or of text, each in four splits that are the same in every run.

Training fits the weights, calibration the stand-ins and the counters, validation chooses the
plan, and the tables show test: no image of one split is in another, so that the figure reported
is one that nothing was chosen by.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from pipeline.networks import fashion_mnist
from pipeline.networks.packaged import minilm_folder, reviews_file
from pipeline.networks.references import call, resolve
from pipeline.networks.tokens import is_text
from pipeline.reporting.progress import Reporter
from runtimes.errors import InputError

NAMES = ("fashion-mnist", "digits", "movie-reviews")
LENGTH = 64  # of a text, in tokens
SPLITS = ("train", "calibration", "validation", "test")
WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)
SHUFFLE_SEED = 20_170_828  # fixed: the splits do not change with the seed of the recipe


@dataclass(frozen=True, slots=True)
class Split:
    """Images as the network takes them, (n, channels, height, width) float32, and int64 labels.

    Or texts in their place, (n, 2, length) int64: see `pipeline.networks.tokens`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, slots=True)
class Splits:
    name: str
    train: Split
    calibration: Split
    validation: Split
    test: Split
    num_classes: int
    vocabulary: int | None = None  # how many tokens there are; None for images

    def sha256(self) -> str:
        """Of every value and label: a stage that was made from other data is another stage."""
        digest = hashlib.sha256()
        for split in (self.train, self.calibration, self.validation, self.test):
            digest.update(repr(tuple(split.images.shape)).encode())
            digest.update(split.images.numpy().data)
            digest.update(split.labels.numpy().data)
        return digest.hexdigest()

    @property
    def in_channels(self) -> int | None:
        """Of the images; texts have none."""
        return None if self.vocabulary else int(self.train.images.shape[1])


def cache_folder() -> Path:
    """$SHOAL_CACHE, or `shoal` in the user's cache folder."""
    if own := os.environ.get("SHOAL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal"


def load_dataset(
    spec: str,
    *,
    cache: Path,
    reporter: Reporter,
    folders: Sequence[Path] = (),
    length: int = LENGTH,
) -> Splits:
    """The four splits of a data set in `NAMES` or the user's `package.module:function`."""
    if spec == "fashion-mnist":
        return _fashion_mnist(cache, reporter)
    if spec == "digits":
        return _digits(reporter)
    if spec == "movie-reviews":
        return _movie_reviews(cache, reporter, length)
    if ":" in spec:
        return _from_function(spec, folders)
    close = get_close_matches(spec, NAMES, n=1)
    raise InputError(
        f"no data set named {spec!r}{f' (did you mean {close[0]}?)' if close else ''}; there are: "
        f"{', '.join(NAMES)} and package.module:function"
    )


def _fashion_mnist(cache: Path, reporter: Reporter) -> Splits:
    folder = fashion_mnist.locate(cache=cache, reporter=reporter)
    images, labels, test_images, test_labels = fashion_mnist.read(folder)
    parts = _parts(len(labels), train=53_000, calibration=2_000, validation=5_000)
    train, calibration, validation = (
        _split(images[part], labels[part], 255, 0.2860, 0.3530) for part in parts
    )
    test = _split(test_images, test_labels, 255, 0.2860, 0.3530)
    return Splits("fashion-mnist", train, calibration, validation, test, num_classes=10)


def _digits(reporter: Reporter) -> Splits:
    found: Any = load_digits()
    reporter.say(f"digits: scikit-learn's own, {len(found.target)} images")
    parts = _parts(len(found.target), train=1_000, calibration=200, validation=200, test=397)
    splits = [_split(found.images[part], found.target[part], 16, 0.305, 0.376) for part in parts]
    return Splits("digits", *splits, num_classes=10)


def _movie_reviews(cache: Path, reporter: Reporter, length: int) -> Splits:
    try:
        movie_reviews = import_module("pipeline.networks.movie_reviews")
    except ModuleNotFoundError as e:
        raise InputError(
            f"data set 'movie-reviews' needs the {e.name!r} package: pip install '.[text]'"
        ) from e
    snippets, labels = movie_reviews.read(reviews_file(cache=cache, reporter=reporter))
    tokenizer = minilm_folder(cache=cache, reporter=reporter) / "tokenizer.json"
    texts, vocabulary = movie_reviews.tokenised(snippets, tokenizer, length=length)
    parts = _parts(len(labels), train=6_400, calibration=400, validation=1_000, test=1_371)
    splits = [Split(texts[part], torch.from_numpy(labels[part]).long()) for part in parts]
    return Splits("movie-reviews", *splits, num_classes=2, vocabulary=vocabulary)


def _parts(total: int, **sizes: int) -> list[np.ndarray]:
    order = np.random.default_rng(SHUFFLE_SEED).permutation(total)
    return np.split(order, np.cumsum(list(sizes.values())))[: len(sizes)]


def _split(images: np.ndarray, labels: np.ndarray, top: int, mean: float, spread: float) -> Split:
    scaled = (images.astype(np.float32) / top - mean) / spread
    return Split(torch.from_numpy(scaled)[:, None], torch.from_numpy(labels.astype(np.int64)))


def _from_function(spec: str, folders: Sequence[Path]) -> Splits:
    pairs = call(spec, resolve(spec, folders=folders), offered={}, options={})
    if not isinstance(pairs, tuple | list) or len(pairs) != len(SPLITS):
        raise InputError(
            f"data set {spec!r} must return four (images, labels) pairs: {', '.join(SPLITS)}"
        )
    splits = [
        _checked(pair, f"data set {spec!r}, {name}")
        for pair, name in zip(pairs, SPLITS, strict=True)
    ]
    shapes = {tuple(split.images.shape[1:]) for split in splits}
    if len(shapes) > 1:
        raise InputError(f"data set {spec!r}: the splits differ in image shape: {sorted(shapes)}")
    classes = int(max(split.labels.max() for split in splits)) + 1
    vocabulary = None
    if is_text(splits[0].images):
        vocabulary = int(max(split.images[:, 0].max() for split in splits)) + 1
    return Splits(spec, *splits, num_classes=classes, vocabulary=vocabulary)


def _checked(pair: Any, where: str) -> Split:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"{where}: not an (images, labels) pair but a {type(pair).__name__}")
    try:
        images, labels = torch.as_tensor(pair[0]), torch.as_tensor(pair[1])
    except (TypeError, ValueError, RuntimeError) as e:
        raise InputError(f"{where}: images and labels must be arrays or tensors: {e}") from e
    text = images.dtype in WHOLE and images.ndim == 3 and images.shape[1] == 2
    if not text and (images.ndim != 4 or not images.is_floating_point()):
        raise InputError(
            f"{where}: images are {images.dtype} {tuple(images.shape)}, and must be floats as the "
            "network takes them, (n, channels, height, width), or whole numbers (n, 2, length): "
            "token ids and attention mask"
        )
    if text and not _well_formed(images):
        raise InputError(
            f"{where}: token ids must be 0 or more, and the mask 0 or 1, with a 1 in every text"
        )
    if not torch.isfinite(images).all():
        raise InputError(f"{where}: some pixels are NaN or infinite")
    if labels.is_floating_point() or labels.is_complex() or labels.shape != images.shape[:1]:
        raise InputError(
            f"{where}: labels are {labels.dtype} {tuple(labels.shape)}, and must be one whole "
            f"number for each of the {len(images)} images"
        )
    if len(labels) == 0 or int(labels.min()) < 0:
        raise InputError(f"{where}: it is empty or has a label below 0")
    return Split((images.long() if text else images.float()).contiguous(), labels.long())


def _well_formed(texts: Tensor) -> bool:
    ids, mask = texts.unbind(1)
    return bool((ids >= 0).all() and ((mask == 0) | (mask == 1)).all() and mask.any(1).all())
