"""Latency tables on a device of known times, and once on the real one."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import pytest
from known_times import CPU, OPENVINO, Device, by_macs
from pydantic import TypeAdapter
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.plans import latency_table
from pipeline.plans.latency_table import method_for
from pipeline.reporting.progress import Reporter
from pipeline.reporting.table_document import TableDocument
from pipeline.verbs.tabled import TableWish, table_file
from runtimes.errors import InputError

QUIET = Reporter(quiet=True)


@pytest.fixture
def isolated(known_times, monkeypatch) -> Device:
    monkeypatch.setattr(latency_table, "CONTEXT_S", 0.0)
    return known_times


def table(path: Path, target: str = CPU, **others) -> TableDocument:
    return table_file(TableWish(path, target, rounds=2, **others), QUIET)


@pytest.mark.usefixtures("isolated")
def test_pieces_and_whole_networks_say_the_same_of_a_device_that_adds_up(make_network, monkeypatch):
    path = make_network(convolutions=4)
    alone = table(path)
    monkeypatch.setattr(latency_table, "CONTEXT_S", 1e9)
    whole = table(path)

    assert (alone.method, whole.method) == ("isolated", "in context")
    for one, other in zip(alone.options, whole.options, strict=True):
        assert one.id == other.id
        assert one.difference_ms == pytest.approx(other.difference_ms, rel=0.01, abs=0.01)
        assert one.difference_ms == pytest.approx((one.macs - one.macs_before) / 1e5, abs=0.01)


@pytest.mark.usefixtures("isolated")
def test_equal_pieces_are_measured_once(make_network):
    document = table(make_network(convolutions=6))

    assert len(document.entries) < len(document.options)


@pytest.mark.usefixtures("isolated")
def test_a_second_table_takes_everything_from_the_registry(make_network):
    path = make_network(convolutions=3)
    first, again = table(path), table(path)

    assert (first.from_cache, again.measured) == (0, 0)
    assert again.from_cache == first.measured > 0
    assert [o.difference_ms for o in again.options] == [o.difference_ms for o in first.options]


@pytest.mark.usefixtures("isolated")
def test_a_second_model_of_the_family_needs_only_what_is_new(make_network):
    small = table(make_network("small.onnx", convolutions=3))
    large = table(make_network("large.onnx", convolutions=4))

    assert large.from_cache > 0
    assert {e.geometry for e in large.entries if e.cached} <= {e.geometry for e in small.entries}
    assert large.measured == len(large.entries) - large.from_cache > 0


@pytest.mark.usefixtures("isolated")
def test_another_target_shares_nothing(make_network):
    path = make_network(convolutions=3)
    table(path)

    assert table(path, OPENVINO).from_cache == 0


@pytest.mark.usefixtures("isolated")
def test_another_shape_shares_nothing(make_network):
    path = make_network(convolutions=3, height="h")
    low = table(path, shapes={"image": (1, 3, 8, 12)})
    high = table(path, shapes={"image": (1, 3, 64, 12)})
    again = table(path, shapes={"image": (1, 3, 64, 12)})

    assert (low.method, low.shapes) == ("in context", {"image": (1, 3, 8, 12)})
    assert high.from_cache == 0 < again.from_cache == len(again.entries)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"picture": (1, 3, 12, 12)}, r"no input 'picture'; there are: image"),
        ({"image": (2, 3, 12, 12)}, r"a batch of 2, and x86-cpu is measured with 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_before_measuring(
    known_times, make_network, shapes, message
):
    with pytest.raises(InputError, match=message):
        table(make_network(height="h"), shapes=shapes)

    assert known_times.calls == []


@pytest.mark.usefixtures("isolated")
def test_fresh_measures_what_is_known_too(make_network):
    path = make_network(convolutions=3)
    table(path)

    assert table(path, fresh=True).from_cache == 0


def test_a_slower_day_changes_no_kept_entry(isolated, make_network):
    """Twice as slow: everything doubles, because the yardstick does."""
    path = make_network(convolutions=3)
    first = table(path)
    isolated.times[CPU] = lambda found: 2 * by_macs(found)
    again = table(path)

    assert again.from_cache == first.measured
    for one, other in zip(first.options, again.options, strict=True):
        assert other.difference_ms == pytest.approx(2 * one.difference_ms, rel=0.01)


def test_an_entry_that_jumps_is_measured_once_more_and_marked(isolated, make_network):
    """Twice as slow at every other look, which is one round of two."""
    looks = itertools.count()

    def jumpy(found) -> float:
        return by_macs(found) * (1 + next(looks) % 2)

    isolated.times[CPU] = jumpy
    document = table(make_network(convolutions=3))

    assert document.unstable > 0
    assert any(not option.stable for option in document.options)
    assert len(isolated.calls) == 3  # dense, all pieces, the wide ones again


def test_what_was_measured_outlives_an_interruption(isolated, make_network, monkeypatch):
    """One piece a batch, and the device goes away after the third."""
    path = make_network(convolutions=4)
    monkeypatch.setattr(latency_table, "BATCH_BYTES", 1)
    whole = isolated.measure

    def fragile(target, paths, **others):
        if len(isolated.calls) == 4:
            raise KeyboardInterrupt
        return whole(target, paths, **others)

    monkeypatch.setattr("pipeline.plans.workbench.measure", fragile)
    with pytest.raises(KeyboardInterrupt):
        table(path)
    monkeypatch.setattr("pipeline.plans.workbench.measure", whole)

    assert table(path).from_cache == 3


def test_batches_hold_no_more_than_their_bytes(isolated, make_network, monkeypatch):
    monkeypatch.setattr(latency_table, "BATCH_BYTES", 1)
    document = table(make_network(convolutions=3))

    assert isolated.calls == [2] * (1 + len(document.entries))


@pytest.mark.parametrize(
    ("dense_ms", "options", "method"),
    [(0.3, 25, "in context"), (30.0, 25, "isolated"), (300.0, 1, "in context")],
)
def test_small_networks_and_few_options_are_measured_in_context(dense_ms, options, method):
    assert method_for(dense_ms, options, rounds=6, load_ms=1.0) == method


def test_a_network_that_takes_long_to_load_is_measured_in_pieces():
    assert method_for(1.0, options=20, rounds=6, load_ms=1.0) == "in context"
    assert method_for(1.0, options=20, rounds=6, load_ms=300.0) == "isolated"


@pytest.mark.usefixtures("known_times")
def test_the_table_is_written_as_json_and_as_csv(make_network, tmp_path):
    path = make_network(convolutions=2)
    document = table(path, out=tmp_path / "table.json")
    table(path, out=tmp_path / "table.csv")

    read = TypeAdapter(TableDocument).validate_json((tmp_path / "table.json").read_bytes())
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert read == document
    assert [row["id"] for row in rows] == [option.id for option in document.options]
    assert float(rows[0]["difference_ms"]) == document.options[0].difference_ms


@pytest.mark.parametrize("name", ["table.txt", "none/table.json"])
def test_a_file_that_cannot_be_written_is_refused_before_measuring(
    known_times, make_network, tmp_path, name
):
    with pytest.raises(InputError):
        table(make_network(), out=tmp_path / name)

    assert known_times.calls == []


def test_a_network_without_options_has_an_empty_table(known_times, make_network):
    document = table(make_network(convolutions=1))

    assert document.options == document.entries == ()
    assert known_times.calls == [2]


def test_the_real_device_times_pieces(make_network, monkeypatch):
    monkeypatch.setattr(latency_table, "CONTEXT_S", 0.0)
    path = make_network(convolutions=2, channels=16, size=16)
    options = ["table", str(path), "--target", CPU, "--rounds", "1", "--json", "--quiet"]

    first = json.loads(CliRunner().invoke(app, options).stdout)
    again = json.loads(CliRunner().invoke(app, options).stdout)

    assert first["schema"] == "shoal.table/1"
    assert all(entry["ms"] > 0 for entry in first["entries"])
    assert (again["measured"], again["from_cache"]) == (0, first["measured"])
