import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from small_networks import reference
from test_measurement import measurement

from profiles.store import MIGRATIONS, Store, registry_folder
from runtimes.base import Artifact
from runtimes.errors import InputError, NothingMeasured
from runtimes.onnx_file import sha256


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "registry")
    yield opened
    opened.close()


@pytest.fixture
def measured(make_network):
    path = make_network()
    one = measurement()
    return replace(one, artifact=replace(one.artifact, path=path, sha256=sha256(path)))


def test_a_baseline_comes_back_as_it_was_with_its_artifact(store, measured):
    store.promote("resnet", measured, note="v1")

    found = store.baseline("resnet", "x86-cpu")

    assert found.measurement == measured
    assert sha256(found.artifact) == measured.artifact.sha256
    assert found.note == "v1"


def test_the_newest_promotion_counts(store, measured):
    store.promote("resnet", measured, note="old")
    store.promote("resnet", measured, note="new")

    assert store.baseline("resnet", "x86-cpu").note == "new"


def test_an_unknown_baseline_lists_those_that_there_are(store, measured):
    store.promote("resnet", measured)

    with pytest.raises(InputError, match="there are: resnet on x86-cpu"):
        store.baseline("vgg", "x86-cpu")


def test_an_artifact_that_changed_since_is_not_promoted(store, measured, make_network):
    make_network(measured.artifact.path.name, convolutions=3)

    with pytest.raises(InputError, match="has changed since"):
        store.promote("resnet", measured)
    assert store.names() == []


@pytest.fixture
def large(make_network, tmp_path):
    """A measured network that keeps its weights in a folder beside it."""
    (tmp_path / "large" / "weights").mkdir(parents=True)
    path = tmp_path / "large" / "large.onnx"
    onnx.save(
        onnx.load(make_network()), path,
        save_as_external_data=True, location="weights/w.bin", size_threshold=0,
    )  # fmt: skip
    return replace(measurement(), artifact=Artifact.of(path, batch=1))


def test_a_network_with_weights_beside_it_is_promoted_whole(store, large):
    store.promote("large", large)
    for file in large.artifact.path.parent.rglob("*.*"):
        file.unlink()

    kept = store.baseline("large", "x86-cpu").artifact

    assert Artifact.of(kept, batch=1).sha256 == large.artifact.sha256
    assert reference(kept)["pooled"].shape == (1, 8, 1, 1)


def test_other_weights_beside_the_same_file_are_another_artifact(store, large):
    weights = large.artifact.path.parent / "weights" / "w.bin"
    weights.write_bytes(bytes(len(weights.read_bytes())))

    assert Artifact.of(large.artifact.path, batch=1).sha256 != large.artifact.sha256
    with pytest.raises(InputError, match="has changed since"):
        store.promote("large", large)


def test_weights_outside_of_the_networks_folder_are_not_copied(store, large, tmp_path):
    path = large.artifact.path
    (tmp_path / "secret.bin").write_bytes((path.parent / "weights" / "w.bin").read_bytes())
    path.write_bytes(path.read_bytes().replace(b"weights/w.bin", b"../secret.bin"))

    with pytest.raises(InputError, match="outside of its own folder"):
        store.promote("large", replace(large, artifact=Artifact.of(path, batch=1)))
    assert [one.name for one in store.folder.rglob("*.bin")] == []


def test_a_full_disk_keeps_neither_the_row_nor_the_artifact(tmp_path, make_network):
    """The kernel refuses to let any file grow past the size that the registry has."""
    script = (
        "import resource, signal, sys\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from test_measurement import measurement\n"
        "from profiles.store import Store\n"
        "from runtimes.base import Artifact\n"
        "from runtimes.errors import NothingMeasured\n"
        "artifact = Artifact.of(Path(sys.argv[2]), batch=1)\n"
        "store = Store(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n"
        "    store.promote('net', replace(measurement(), artifact=artifact))\n"
        "except NothingMeasured as e:\n"
        "    print(e)\n"
    )
    network = make_network()

    def promote_with(limit_bytes):
        done = subprocess.run(
            [sys.executable, "-B", "-c", script, tmp_path / "registry", network, str(limit_bytes)],
            capture_output=True, text=True, cwd=Path(__file__).parent, check=False,
            env={"PYTHONPATH": str(Path(__file__).parent.parent)},
        )  # fmt: skip
        return done.stdout

    copy_fails, row_fails = promote_with(1024), promote_with(network.stat().st_size)

    store = Store(tmp_path / "registry")
    assert "could not be copied to the registry" in copy_fails
    assert "could not be written" in row_fails
    assert (store.count(), store.names()) == (0, [])
    store.close()


def test_version_one_is_migrated_with_its_rows(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    old = sqlite3.connect(folder / "registry.sqlite")
    old.executescript(MIGRATIONS[0])
    old.execute("INSERT INTO measurements VALUES (1, 'then', 'x86-cpu', 'ab', 1.5, '{}')")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()

    store = Store(folder)

    assert store.count() == 1
    assert store.connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert store.connection.execute("SELECT note FROM baselines").fetchall() == []
    store.close()


def test_version_three_is_migrated_to_hold_latencies(tmp_path):
    old = sqlite3.connect(tmp_path / "registry.sqlite")
    for migration in MIGRATIONS[:3]:
        old.executescript(migration)
    old.execute("INSERT INTO calibrations VALUES ('x86-cpu', 'then', '{}')")
    old.execute("PRAGMA user_version = 3")
    old.commit()
    old.close()

    store = Store(tmp_path)
    store.keep_latencies("here", {"conv": "1"})

    assert store.calibration("x86-cpu") == {}
    assert store.latencies("here", ["conv"]) == {"conv": "1"}
    store.close()


def test_latencies_come_back_under_their_conditions_alone(store):
    store.keep_latencies("here", {"conv": "old", "matrix": "1"})
    store.keep_latencies("here", {"conv": "new"})

    assert store.latencies("here", ["conv", "unknown"]) == {"conv": "new"}
    assert store.latencies("there", ["conv"]) == {}


def test_the_parts_of_a_job_are_there_until_it_is_finished(store):
    store.keep_part("job", "dense", "1")
    store.keep_part("another", "dense", "2")

    store.forget_job("job")

    assert store.part("job", "dense") is None
    assert store.part("another", "dense") == "2"


def test_parts_that_nobody_came_back_for_are_dropped(store):
    store.keep_part("job", "dense", "1")
    store.connection.execute("UPDATE unfinished SET made_at = '2000-01-01T00:00:00.000000+00:00'")

    assert store.part("job", "dense") is None


def test_a_newer_version_is_refused(tmp_path):
    Store(tmp_path).close()
    newer = sqlite3.connect(tmp_path / "registry.sqlite")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()

    with pytest.raises(InputError, match="use the newer shoal"):
        Store(tmp_path)


def test_an_unwritable_place_is_refused():
    with pytest.raises(InputError, match="cannot be opened"):
        Store(Path("/proc/nowhere"))


def test_the_place_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_REGISTRY", str(tmp_path))

    assert registry_folder() == tmp_path


def test_a_transaction_that_fails_leaves_nothing(store, measured):
    store.connection.execute("DROP TABLE baselines")

    with pytest.raises(NothingMeasured, match="nothing was kept"):
        store.promote("resnet", measured)

    assert store.count() == 0
