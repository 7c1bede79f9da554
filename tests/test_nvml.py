"""What a datacentre GPU tells through NVIDIA's own binding, over a library made of Python."""

import os
import sys

import pynvml
import pytest
from fake_nvml import A100, NOT_SUPPORTED, install, processes, violations

from profiles.device import Watch
from profiles.nvml import Gpu


@pytest.fixture(autouse=True)
def own_order(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def test_it_says_which_gpu_it_is_and_how_it_is_set(monkeypatch):
    install(monkeypatch)

    told = Gpu().state()

    assert told.facts == {
        "gpu_name": "NVIDIA A100-PCIE-40GB",
        "gpu_uuid": "GPU-5f0c0000-0000-0000-0000-000000000001",
        "gpu_driver": "580.82.07",
        "gpu_vbios": "92.00.25.00.08",
        "gpu_power_limit_mw": 250000,
        "gpu_clock_max_mhz": 1410,
        "gpu_memory_clock_max_mhz": 1410,
        "gpu_ecc": "on",
        "gpu_mig": "off",
        "gpu_persistence": "on",
        "gpu_other_processes": 0,
    }
    assert told.missing == {}


def test_what_the_gpu_does_not_support_is_null_with_its_words(monkeypatch):
    install(monkeypatch, nvmlDeviceGetEccMode=NOT_SUPPORTED)

    told = Gpu().state()

    assert told.facts["gpu_ecc"] is None
    assert told.missing == {"gpu_ecc": "NVML: Not Supported"}


def test_a_board_where_nvml_supports_nothing_has_no_zero_in_its_reading(monkeypatch):
    """A Jetson's NVML initialises and then answers NotSupported."""
    asked = [name for name in A100 if name.startswith("nvmlDeviceGet") and "Handle" not in name]
    install(
        monkeypatch,
        **{name: NOT_SUPPORTED for name in asked if "Count" not in name and "Name" not in name},
    )

    reading = Gpu().reading()

    assert set(reading.told.facts.values()) == {None}
    assert set(reading.told.missing) == set(reading.told.facts)
    assert (reading.counts, reading.throttled, reading.clock) == ({}, (), None)


def test_a_function_that_the_driver_lacks_is_null(monkeypatch):
    install(monkeypatch, nvmlDeviceGetMigMode=None)

    assert Gpu().state().missing == {"gpu_mig": "NVML: Function Not Found"}


def test_without_the_binding_every_fact_is_null_and_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)

    told = Gpu().state()

    assert set(told.facts.values()) == {None}
    assert "pip install nvidia-ml-py" in told.missing["gpu_name"]


def test_without_a_driver_every_fact_is_null_in_nvmls_words(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(
        pynvml, "CDLL", lambda _name: (_ for _ in ()).throw(OSError("no libnvidia-ml.so.1"))
    )

    assert Gpu().state().missing["gpu_name"] == "NVML: NVML Shared Library Not Found"


def test_a_gpu_at_rest_is_not_throttled(monkeypatch):
    rest = pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonUserDefinedClocks
    install(monkeypatch, nvmlDeviceGetCurrentClocksEventReasons=(rest,))

    assert Gpu().reading().throttled == ()


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        (pynvml.nvmlClocksEventReasonSwPowerCap, "power cap"),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, "thermal slowdown"),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, "hardware thermal slowdown"),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, "power brake"),
    ],
)
def test_a_block_with_a_throttle_reason_is_disturbed(monkeypatch, flag, reason):
    install(monkeypatch, nvmlDeviceGetCurrentClocksEventReasons=(flag,))
    watch = Watch(Gpu())

    change = watch.between(watch.reading(), watch.reading())

    assert change.disturbances() == (reason,)


def test_throttling_that_ended_before_the_block_did_is_counted(monkeypatch):
    library = install(monkeypatch)
    watch = Watch(Gpu())
    before = watch.reading()
    library.answers["nvmlDeviceGetViolationStatus"] = violations(2_000_000, 0)

    change = watch.between(before, watch.reading())

    assert change.events == {"held down for power": 2_000_000, "held down for heat": 0}
    assert change.disturbances() == ("held down for power",)


def test_a_clock_far_below_the_highest_seen_disturbs_the_block(monkeypatch):
    library = install(monkeypatch)
    watch = Watch(Gpu())
    before = watch.reading()
    library.answers["nvmlDeviceGetClockInfo"] = (900,)

    assert watch.between(before, watch.reading()).disturbances() == ("the device's clock dropped",)


def test_other_processes_on_the_gpu_are_counted_without_this_one(monkeypatch):
    install(monkeypatch, nvmlDeviceGetComputeRunningProcesses_v3=processes(os.getpid(), 1, 2))

    assert Gpu().state().facts["gpu_other_processes"] == 2


def test_which_of_two_unlike_gpus_is_cudas_first_is_not_guessed(monkeypatch):
    names = [b"NVIDIA T400", b"NVIDIA L4"]

    def name_of(_handle, name, _length):
        name.value = names.pop(0)
        return pynvml.NVML_SUCCESS

    install(monkeypatch, nvmlDeviceGetCount_v2=(2,), nvmlDeviceGetName=name_of)

    told = Gpu().state()

    assert told.facts["gpu_name"] is None
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in told.missing["gpu_name"]


def test_a_gpu_chosen_by_its_uuid_is_asked_by_it(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f0c0000-0000-0000-0000-000000000001")
    library = install(monkeypatch)

    Gpu()

    assert library.called == ["nvmlInitWithFlags", "nvmlDeviceGetHandleByUUID"]
