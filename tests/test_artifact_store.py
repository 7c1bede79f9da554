"""What a device keeps: whole artifacts under the names of their contents, and nothing else."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiles.artifact_store import (
    NETWORK,
    UNUSED_S,
    ArtifactStore,
    checked_manifest,
    files_of,
    manifest_of,
    name_of,
)
from runtimes.errors import InputError


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def network(tmp_path):
    """y = w x, w in a file in a folder beside the network."""
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [weight],
    )
    path = tmp_path / "here" / "network.onnx"
    path.parent.mkdir()
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )  # fmt: skip
    return path


def send(store, manifest, files):
    for name in manifest:
        store.write(manifest, name, 0, files[name].read_bytes())
    return store.finish(manifest)


def test_a_network_comes_with_the_weights_beside_it(store, network):
    files = files_of(network)
    manifest = manifest_of(files)

    store.offer(manifest)
    wrong = send(store, manifest, files)

    kept = store.network(name_of(manifest))
    assert not wrong
    assert kept.with_name("weights.bin").read_bytes() == files["weights.bin"].read_bytes()
    assert store.offer(manifest) is None


def test_a_half_sent_artifact_is_found_again_and_has_no_name_yet(store, network):
    files = files_of(network)
    manifest = manifest_of(files)
    store.offer(manifest)
    store.write(manifest, "weights.bin", 0, files["weights.bin"].read_bytes()[:1000])

    here = ArtifactStore(store.folder).offer(manifest)

    assert here == {"weights.bin": 1000, NETWORK: 0}
    assert not store.network(name_of(manifest)).exists()


def test_an_artifact_damaged_on_the_way_gets_no_name(store, network):
    files = files_of(network)
    manifest = manifest_of(files)
    store.offer(manifest)
    store.write(manifest, "weights.bin", 0, bytes(manifest["weights.bin"].size_bytes))
    store.write(manifest, NETWORK, 0, network.read_bytes())

    wrong = store.finish(manifest)

    assert wrong == ("weights.bin",)
    assert not store.network(name_of(manifest)).exists()
    assert store.offer(manifest) == {"weights.bin": 0, NETWORK: manifest[NETWORK].size_bytes}


def test_an_artifact_damaged_where_it_lies_is_asked_for_again(store, network):
    files = files_of(network)
    manifest = manifest_of(files)
    store.offer(manifest)
    send(store, manifest, files)
    store.network(name_of(manifest)).write_bytes(bytes(10))

    assert store.offer(manifest) == {"weights.bin": 0, NETWORK: 0}


def test_two_sessions_may_send_the_same_at_once(store, network):
    files = files_of(network)
    manifest = manifest_of(files)
    store.offer(manifest)
    send(store, manifest, files)

    store.write(manifest, NETWORK, 0, b"late")

    assert store.finish(manifest) == ()
    assert store.network(name_of(manifest)).read_bytes() == network.read_bytes()


def test_a_network_that_reads_files_of_others_is_refused(store, network):
    manifest = manifest_of({NETWORK: network})
    store.offer(manifest)
    secret = store.folder / "weights.bin"
    secret.write_bytes(b"of somebody else")
    model = onnx.load(network, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../weights.bin"
    network.write_bytes(model.SerializeToString())
    manifest = manifest_of({NETWORK: network})
    store.offer(manifest)

    with pytest.raises(InputError, match=r"reads \.\./weights\.bin, which is no file of its own"):
        send(store, manifest, {NETWORK: network})

    assert not store.network(name_of(manifest)).exists()


HASH = "0" * 64


@pytest.mark.parametrize(
    ("name", "sha256", "size", "match"),
    [
        ("../../.ssh/authorized_keys", HASH, 1, "no file inside an artifact"),
        ("/etc/passwd", HASH, 1, "no file inside an artifact"),
        ("a/../../b", HASH, 1, "no file inside an artifact"),
        (".", HASH, 1, "no file inside an artifact"),
        ("", HASH, 1, "no file inside an artifact"),
        ("a\x00b", HASH, 1, "no file inside an artifact"),
        ("w", "../x", 1, "is no SHA-256"),
        ("w", HASH.upper().replace("0", "G"), 1, "is no SHA-256"),
        ("w", HASH, -1, "no size"),
        ("w", HASH, 1, "an artifact has a network"),
    ],
)
def test_a_manifest_that_points_elsewhere_is_refused(name, sha256, size, match):
    with pytest.raises(InputError, match=match):
        checked_manifest({name: {"sha256": sha256, "size_bytes": size}})


@pytest.mark.parametrize(("at", "content"), [(5, b"x"), (-1, b"x"), (0, bytes(10**6))])
def test_a_piece_that_does_not_belong_is_refused(store, network, at, content):
    manifest = manifest_of(files_of(network))
    store.offer(manifest)

    with pytest.raises(InputError, match="do not follow"):
        store.write(manifest, NETWORK, at, content)


def test_what_nobody_asked_for_in_a_week_is_removed(store, network):
    files = files_of(network)
    manifest = manifest_of(files)
    store.offer(manifest)
    send(store, manifest, files)
    last_use_s = store.network(name_of(manifest)).parent.stat().st_mtime

    store.sweep(now_s=last_use_s + UNUSED_S - 1)
    kept = [path.name for path in store.folder.iterdir()]
    store.sweep(now_s=last_use_s + UNUSED_S + 1)

    assert kept == [name_of(manifest)]
    assert not list(store.folder.iterdir())
