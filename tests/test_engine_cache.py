"""An engine is used again where it was built, for what it was built from, and nowhere else."""

import pytest

from runtimes.engine_cache import EngineCache, cache_folder

ORDER = {"onnx": "a" * 64, "builder_level": "3"}
PLACE = {"tensorrt": "10.3.0", "gpu": "Orin"}


@pytest.fixture
def cache(tmp_path):
    kept = EngineCache(tmp_path / "engines")
    kept.keep(ORDER, PLACE, b"engine")
    return kept


def test_what_was_kept_is_found(cache):
    found = cache.find(ORDER, PLACE)

    assert (found.engine, found.reason) == (b"engine", "built before")


def test_an_empty_cache_says_that_there_is_none(tmp_path):
    found = EngineCache(tmp_path / "nothing").find(ORDER, PLACE)

    assert found.engine is None
    assert found.reason == "no engine of this network with these settings yet"


def test_another_place_is_named_with_both_values(cache):
    found = cache.find(ORDER, {**PLACE, "tensorrt": "10.13.3"})

    assert found.engine is None
    assert found.reason == ("the engine at hand was built elsewhere: tensorrt 10.3.0, here 10.13.3")


def test_two_places_keep_their_own(cache):
    other = {**PLACE, "gpu": "A100"}

    cache.keep(ORDER, other, b"for the other")

    assert cache.find(ORDER, PLACE).engine == b"engine"
    assert cache.find(ORDER, other).engine == b"for the other"


@pytest.mark.parametrize("content", [b"engin", b"", b"Engine"])
def test_a_damaged_engine_is_not_used(cache, content):
    (path,) = cache.folder.glob("*.engine")
    path.write_bytes(content)

    found = cache.find(ORDER, PLACE)

    assert found.engine is None
    assert "damaged" in found.reason


def test_an_engine_without_its_bytes_is_not_used(cache):
    (path,) = cache.folder.glob("*.engine")
    path.unlink()

    assert "damaged: 0 bytes of 6" in cache.find(ORDER, PLACE).reason


@pytest.mark.parametrize("content", ["", "[]", '{"order": {}}'])
def test_a_description_that_does_not_agree_is_not_trusted(cache, content):
    (path,) = cache.folder.glob("*.json")
    path.write_text(content)

    found = cache.find(ORDER, PLACE)

    assert found.engine is None
    assert "is another" in found.reason


def test_timings_are_kept_for_a_place(cache):
    cache.keep_timing(PLACE, b"timed")

    assert cache.timing(PLACE) == b"timed"
    assert cache.timing({**PLACE, "gpu": "A100"}) == b""


def test_the_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("SHOAL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("engines") == tmp_path / "shoal" / "engines"

    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "own"))
    assert cache_folder("engines") == tmp_path / "own" / "engines"
