"""A target is proved by computing, and a target that computes wrongly is found out."""

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fake_sdks import FAKES, fake_tensorrt
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.devices import doctor, proving
from pipeline.reporting.progress import Reporter
from profiles.agent import Agent
from profiles.target import Target, find_target
from runtimes.errors import InputError, RuntimeUnavailable

QUIET = Reporter(quiet=True)


class InProcess:
    """A worker whose agent is in this process, where the fakes are.

    It is not pinned: an SDK counts the cores of its process once, for all tests to come.
    """

    def __init__(self):
        self.agent = Agent()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.agent.answer('{"do": "close"}')

    def ask(self, do, *, within_s, **request):
        if do == "open":
            request["cores"] = sorted(os.sched_getaffinity(0))
        answer = json.loads(json.dumps(self.agent.answer(json.dumps({"do": do, **request}))))
        if "ok" in answer:
            return answer["ok"]
        kind = {"unavailable": RuntimeUnavailable, "input": InputError}
        raise kind.get(answer["error"]["kind"], AssertionError)(f"{within_s}: {answer['error']}")


def in_process(_target: Target) -> Any:
    return InProcess()


def by_name(document):
    return {check.name: check for check in document.checks}


@pytest.mark.parametrize("name", ["x86-cpu", "x86-openvino"])
def test_a_target_of_this_machine_is_proved(name):
    document = proving.prove(find_target(name), QUIET)

    assert [check for check in document.checks if not check.passed] == []
    assert document.passed
    assert document.runtime_version
    assert document.host["machine"]


@pytest.mark.parametrize("release", FAKES, ids=str)
def test_the_whole_proof_runs_on_every_release_of_the_fake(release, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path))
    with fake_tensorrt(monkeypatch, *release):
        document = proving.prove(Target("fake", "trt", device="gpu"), QUIET, start=in_process)

    assert [check for check in document.checks if not check.passed] == []
    assert "computed in int8" in by_name(document)["int8 agrees"].detail
    assert "on the device's" in by_name(document)["a run takes time"].detail


def test_an_engine_in_secret_fp32_fails_the_proof(monkeypatch, tmp_path):
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path))
    with fake_tensorrt(monkeypatch, *FAKES[0]) as fake:
        fake.trt.fp32_in_secret = True
        document = proving.prove(Target("fake", "trt", device="gpu"), QUIET, start=in_process)

    failed = [check.name for check in document.checks if not check.passed]
    assert failed == ["fp16 agrees", "int8 agrees"]
    assert proving.exit_code(document) == 3


def test_a_target_that_computes_nothing_is_not_proved():
    document = proving.prove(Target("null", "null"), QUIET)

    failed = [check.name for check in document.checks if not check.passed]
    assert "one node computes what numpy does" in failed
    assert "fp32 agrees" in failed


@contextmanager
def wrong(monkeypatch):
    """OpenVINO, whose second output value is a little off."""
    ov = pytest.importorskip("runtimes.ov")
    right = ov.OvSession.outputs

    def outputs(self):
        arrays = right(self)
        for array in arrays.values():
            array.ravel()[1] += 0.05
        return arrays

    monkeypatch.setattr(ov.OvSession, "outputs", outputs)
    yield


def test_one_wrong_value_is_found(monkeypatch):
    with wrong(monkeypatch):
        document = proving.prove(find_target("x86-openvino"), QUIET, start=in_process)

    assert not by_name(document)["one node computes what numpy does"].passed
    assert not by_name(document)["fp32 agrees"].passed


def test_a_target_without_its_sdk_is_an_error_and_no_proof():
    absent = replace(find_target("x86-cpu"), runtime="trt", device="gpu")

    with pytest.raises(RuntimeUnavailable, match="not installed here"):
        proving.prove(absent, QUIET)


def test_the_doctor_tells_why_a_runtime_without_a_device_does_not_run(monkeypatch):
    with fake_tensorrt(monkeypatch, *FAKES[0]) as fake:
        fake.gpu.devices = 0
        report = doctor.examine("trt")

    assert not report.available
    assert "CUDA does not start here" in (report.reason or "")


def test_this_machine_is_not_proved_in_the_name_of_another(tmp_path, monkeypatch):
    config = tmp_path / "ssh_config"
    config.write_text("Host a100\n  HostName 127.0.0.1\n  Port 1\n")
    monkeypatch.setenv("SHOAL_SSH_CONFIG", str(config))

    with pytest.raises(InputError, match="'a100' is there but takes no ssh"):
        proving.prove(find_target("a100"), QUIET)


def test_the_command_prints_the_certificate():
    done = CliRunner().invoke(app, ["doctor", "--target", "x86-cpu", "--prove", "--json"])

    document = json.loads(done.stdout)
    assert (done.exit_code, document["schema"]) == (0, "shoal.proof/1")
    assert document["target"]["name"] == "x86-cpu"


@pytest.mark.parametrize("options", [["--prove"], ["--target", "x86-cpu"]])
def test_the_two_options_need_each_other(options):
    done = CliRunner().invoke(app, ["doctor", *options])

    assert isinstance(done.exception, InputError)


def test_the_certificate_can_be_read_by_people():
    document = proving.prove(find_target("x86-cpu"), QUIET)

    table = proving.show_proof(document)

    assert table.title == "x86-cpu: proved"
    assert table.row_count > len(document.checks)


@pytest.mark.gpu
def test_the_gpu_of_this_machine_is_proved(request):
    target = Target("gpu", "trt", device="gpu")
    try:
        document = proving.prove(target, QUIET)
    except RuntimeUnavailable as e:
        if "gpu" in request.config.option.markexpr:
            raise
        pytest.skip(str(e))

    assert [check for check in document.checks if not check.passed] == []
