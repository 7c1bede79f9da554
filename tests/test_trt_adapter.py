"""What the TensorRT adapter asks of each release, read off strict fakes of four of them."""

from importlib import import_module

import numpy as np
import pytest
from fake_sdks import FAKES, GRAPHS, TENSORRT, fake_tensorrt, fresh_adapters
from small_networks import SHAPE, counting_network, reference, run

from pipeline.devices.probes import half_network, quantised_network
from runtimes import base
from runtimes.errors import InputError, RuntimeUnavailable
from runtimes.inputs import given


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fake(request, monkeypatch):
    """A fake TensorRT in place of the real one: `.trt` scripts it, `.gpu` is its device."""
    with fake_tensorrt(monkeypatch, *getattr(request, "param", FAKES[0])) as fake:
        yield fake


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("fake", GRAPHS, indirect=True, ids=str)
def test_a_cuda_graph_computes_the_same(make_network):
    path = make_network()

    session = run(base.make("trt", "gpu", {"cuda_graph": True}), path)
    session.run()

    assert session.identity()["cuda_graph"] == "yes"
    np.testing.assert_allclose(session.outputs()["pooled"], reference(path)["pooled"], rtol=1e-4)


@pytest.mark.parametrize("fake", FAKES, indirect=True, ids=str)
def test_a_run_waits_for_its_end_and_a_closed_session_leaves_nothing(fake, make_network):
    session = run(base.make("trt", "gpu"), make_network())
    waiting = fake.gpu.waiting

    session.close()

    assert (waiting, fake.gpu.memory) == (0, {})


@pytest.mark.parametrize(
    ("fake", "strong", "flag"),
    [
        (FAKES[0], False, {"FP16"}),
        (FAKES[1], True, set()),
        (FAKES[2], True, set()),
        (FAKES[3], True, set()),
    ],
    indirect=["fake"],
    ids=TENSORRT,
)
def test_flags_are_for_versions_that_need_them(fake, tmp_path, strong, flag):
    run(base.make("trt", "gpu"), half_network(tmp_path / "network.onnx"))

    (build,) = fake.trt.builds
    assert (build["strong"], build["flags"]) == (strong, flag)


@pytest.mark.parametrize("fake", FAKES[3:4], indirect=True, ids=str)
def test_the_flag_fp16_does_not_exist_in_tensorrt_11(fake):
    fake.gpu.contexts = 1
    trt = import_module("tensorrt")
    config = trt.Builder(import_module("runtimes.trt_build").Messages()).create_builder_config()

    with pytest.raises(AttributeError, match="FP16"):
        config.set_flag(trt.BuilderFlag.FP16)


def test_settings_reach_the_builder(fake, make_network):
    settings = {"workspace_mib": 64, "builder_level": 5, "tf32": True}

    session = run(base.make("trt", "gpu", settings), make_network())

    (build,) = fake.trt.builds
    assert build["limits"] == {"WORKSPACE": 64 << 20}
    assert (build["level"], build["flags"]) == (5, {"TF32"})
    assert session.identity()["workspace_mib"] == "64"


def test_kernels_timed_before_are_not_timed_again(fake, make_network):
    runtime = base.make("trt", "gpu")
    run(runtime, make_network("a.onnx"))

    run(runtime, make_network("b.onnx", convolutions=3))

    assert [build["timing"] for build in fake.trt.builds] == [b"", b"timed;"]


@pytest.mark.parametrize("fake", FAKES[:4], indirect=True, ids=TENSORRT)
@pytest.mark.parametrize("make", [half_network, quantised_network])
def test_an_engine_without_the_graphs_precision_is_refused(fake, tmp_path, make):
    fake.trt.fp32_in_secret = True

    with pytest.raises(InputError, match="built no layer below fp32"):
        run(base.make("trt", "gpu"), make(tmp_path / "network.onnx"))


def test_an_inspector_that_says_nothing_is_not_taken_for_a_yes(fake, make_network):
    fake.trt.silent_inspector = True

    session = run(base.make("trt", "gpu"), make_network())

    assert session.identity()["inference_precision"] == "the inspector does not say"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"driver": 13020}, "cuda 12.6, here 13.2"),
        ({"capability": (8, 0), "name": "A100"}, r"compute_capability 8.7, here 8.0, gpu Orin"),
    ],
)
def test_an_engine_of_another_place_is_not_loaded_and_the_reason_is_told(
    fake, make_network, monkeypatch, change, reason
):
    path = make_network()
    run(base.make("trt", "gpu"), path)
    for name, value in change.items():
        setattr(fake.gpu, name, value)
    with fresh_adapters(monkeypatch):
        session = run(base.make("trt", "gpu"), path)

    assert session.loaded.origin.startswith("the engine at hand was built elsewhere: ")
    assert reason in session.loaded.origin
    assert len(fake.trt.builds) == 2


def test_settings_make_another_engine(fake, make_network):
    path = make_network()
    run(base.make("trt", "gpu"), path)

    run(base.make("trt", "gpu", {"builder_level": 1}), path)

    assert [build["level"] for build in fake.trt.builds] == [3, 1]


def test_what_tensorrt_says_about_a_failed_build_is_told(fake, make_network):
    fake.gpu.dla_cores = 2

    with pytest.raises(InputError, match="GlobalAveragePool cannot run on DLA"):
        run(base.make("trt", "dla:0"), fp16(make_network))


def fp16(make_network):
    onnx = import_module("onnx")
    path = make_network()
    model = onnx.load(path)
    for weight in model.graph.initializer:
        half = onnx.numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(onnx.numpy_helper.from_array(half, weight.name))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, path)
    return path


def test_a_dla_may_fall_back_to_the_gpu_when_told_so(fake, make_network):
    fake.gpu.dla_cores = 2

    session = run(base.make("trt", "dla:1", {"gpu_fallback": True}), fp16(make_network))

    (build,) = fake.trt.builds
    assert build["dla_core"] == 1
    assert "GPU_FALLBACK" in build["flags"]
    assert " on dla of " in session.identity()["providers"]


def test_a_dla_is_among_the_devices_where_it_is_offered(fake):
    fake.gpu.dla_cores = 2

    assert base.make("trt", "gpu").providers() == ("gpu:0", "dla:0", "dla:1")


def test_a_dla_does_not_compute_in_fp32(fake, make_network):
    fake.gpu.dla_cores = 1

    with pytest.raises(InputError, match="fp16 or int8, not fp32"):
        run(base.make("trt", "dla:0"), make_network())


@pytest.mark.usefixtures("fake")
def test_a_shape_that_values_decide_is_refused(tmp_path):
    with pytest.raises(InputError, match="decided by the values"):
        run(base.make("trt", "gpu"), counting_network(tmp_path / "counting.onnx"))


def test_other_weights_beside_the_same_graph_are_another_engine(fake, make_network, tmp_path):
    onnx = import_module("onnx")
    model = onnx.load(make_network())
    for seed in (1, 2):
        for weight in model.graph.initializer:
            values = np.random.default_rng(seed).standard_normal(tuple(weight.dims))
            values = onnx.numpy_helper.from_array(values.astype(np.float32), weight.name)
            weight.CopyFrom(values)
        path = tmp_path / "apart.onnx"
        onnx.save(model, path, save_as_external_data=True, location="w", size_threshold=0)
        onnx.load_external_data_for_model(model, str(tmp_path))
        session = run(base.make("trt", "gpu"), path)

    assert len(fake.trt.builds) == 2
    np.testing.assert_allclose(session.outputs()["pooled"], reference(path)["pooled"], rtol=1e-4)


@pytest.mark.usefixtures("fake")
def test_an_input_of_another_type_is_refused(tmp_path):
    path = half_network(tmp_path / "network.onnx")
    doubles = given({"x": np.zeros(SHAPE)})

    with pytest.raises(InputError, match="'x' is float64, TensorRT takes float16"):
        base.make("trt", "gpu").load(path, threads=1, inputs=doubles)


@pytest.mark.usefixtures("fake")
def test_a_setting_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(InputError, match="no setting 'fp16'; it has: workspace_mib"):
        base.make("trt", "gpu", {"fp16": True})
    with pytest.raises(InputError, match="is '64', which is no int"):
        base.make("trt", "gpu", {"workspace_mib": "64"})


@pytest.mark.parametrize("fake", FAKES[3:4], indirect=True, ids=str)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda trt, logger: trt.Builder(logger).platform_has_fast_fp16, AttributeError),
        (lambda trt, _: trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH, AttributeError),
        (lambda trt, _: trt.IInt8EntropyCalibrator2, AttributeError),
        (lambda trt, _: trt.Builder(), TypeError),
        (lambda trt, logger: trt.Builder(logger, 1), TypeError),
        (lambda trt, logger: trt.Builder(logger).create_network(flag=1), TypeError),
        (lambda trt, logger: trt.Builder(logger).create_network(64), TypeError),
        (lambda trt, logger: trt.Builder(type(logger)), TypeError),
        (lambda trt, _: trt.ICudaEngine(), TypeError),
        (lambda trt, logger: setattr(trt.Builder(logger), "max_batch", 1), AttributeError),
        (lambda trt, logger: setattr(trt.Builder(logger), "num_DLA_cores", 1), AttributeError),
        (lambda trt, logger: trt.Builder(logger).reset(), NotImplementedError),
    ],
)
def test_the_fake_can_fail(fake, wrong, error):
    fake.gpu.contexts = 1
    logger = import_module("runtimes.trt_build").Messages()

    with pytest.raises(error):
        wrong(import_module("tensorrt"), logger)


def test_a_logger_that_forgets_its_base_is_caught_by_the_fake(fake):
    fake.gpu.contexts = 1
    trt = import_module("tensorrt")

    class Forgetful(trt.ILogger):
        def __init__(self):
            self.errors = []

    with pytest.raises(TypeError):
        trt.Builder(Forgetful())


def test_without_tensorrt_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(import_module("sys").modules, "tensorrt", None)
    with (
        fresh_adapters(monkeypatch),
        pytest.raises(RuntimeUnavailable, match=r"pip install tensorrt .* --system-site-packages"),
    ):
        base.get("trt")
