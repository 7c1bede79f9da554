"""A Jetson's state from its files and tools; see fake_jetson.py for where the formats are from."""

import sys
from types import ModuleType
from typing import Any

import fake_jetson
import pytest
from fake_jetson import ORIN_NANO, tools, write

from profiles.device import Watch
from profiles.jetson import Jetson, ask_jtop, is_jetson, run_command
from profiles.jetson_text import parse_board, parse_clocks, parse_power_mode, parse_release


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (fake_jetson.MODE, ("MAXN_SUPER", 2)),
        (fake_jetson.MODE_AFTER_WARNING, ("MODE_30W", 2)),
        ("NV Power Mode: MAXN\n", ("MAXN", None)),
        ("NVPM ERROR: cannot open /etc/nvpmodel.conf\n", (None, None)),
    ],
)
def test_the_power_mode_is_read_with_its_number(text, mode):
    assert parse_power_mode(text) == mode


@pytest.mark.parametrize(
    ("text", "override"),
    [(fake_jetson.CLOCKS_JETPACK_6, 1), (fake_jetson.CLOCKS_JETPACK_7, None)],
)
def test_the_memorys_clocks_are_read_in_the_forms_of_both_jetpacks(text, override):
    assert parse_clocks(text) == {
        "memory_clock_min_hz": 204000000,
        "memory_clock_max_hz": 3199000000,
        "memory_clock_hz": 3199000000,
        "memory_clock_override": override,
    }


def test_the_release_and_the_board_are_read():
    assert parse_release(ORIN_NANO["etc/nv_tegra_release"]) == "36.4.4"
    assert parse_board("NVIDIA Jetson AGX Thor\0") == "NVIDIA Jetson AGX Thor"


def board(root, *, jtop: Any = "jtop is not installed", **said):
    return Jetson(write(root, ORIN_NANO), run=tools(**said), jtop=lambda: jtop)


def test_a_jetson_is_known_by_its_device_tree(tmp_path):
    assert is_jetson(write(tmp_path, ORIN_NANO))
    assert not is_jetson(tmp_path / "nothing")


def test_it_says_which_board_it_is_and_how_it_is_set(tmp_path):
    facts = board(tmp_path, clocks=fake_jetson.CLOCKS_JETPACK_6).state().facts

    assert facts == {
        "board": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "l4t": "36.4.4",
        "power_mode": "MAXN_SUPER",
        "power_mode_id": 2,
        "gpu_clock_min_hz": 1020000000,
        "gpu_clock_max_hz": 1020000000,
        "cpu_clock_min_khz": 1728000,
        "cpu_clock_max_khz": 1728000,
        "memory_clock_min_hz": 204000000,
        "memory_clock_max_hz": 3199000000,
        "memory_clock_hz": 3199000000,
        "memory_clock_override": 1,
        "clocks": "locked",
    }


def test_what_root_alone_may_read_is_null_and_says_so(tmp_path):
    told = board(tmp_path).state()

    assert told.facts["memory_clock_hz"] is None
    assert "as a root user" in told.missing["memory_clock_hz"]
    assert "jtop is not installed" in told.missing["memory_clock_hz"]


def test_jtop_tells_what_root_alone_may_read(tmp_path):
    told = board(tmp_path, jtop={"memory_clock_hz": 3199000000}).state()

    assert told.facts["memory_clock_hz"] == 3199000000
    assert "memory_clock_hz" not in told.missing


def test_jtop_is_not_asked_for_what_is_known(tmp_path):
    known = board(tmp_path, clocks=fake_jetson.CLOCKS_JETPACK_6, jtop={"power_mode": "15W"}).state()

    assert known.facts["power_mode"] == "MAXN_SUPER"


@pytest.mark.parametrize("file", ["17000000.gpu/min_freq", "cpu5/cpufreq/scaling_min_freq"])
def test_one_clock_that_may_move_is_not_locked(tmp_path, file):
    jetson = board(tmp_path)
    (moving,) = tmp_path.rglob(file)
    moving.write_text("306000\n")

    assert jetson.state().facts["clocks"] == "not locked"


def test_clocks_that_cannot_be_read_are_not_taken_for_locked(tmp_path):
    jetson = board(tmp_path)
    (tmp_path / "sys/class/devfreq/17000000.gpu/min_freq").unlink()

    told = jetson.state()

    assert told.facts["clocks"] is None
    assert told.missing["clocks"] == "the range of the GPU's or of a core's clock is not known"


def test_a_reading_has_clocks_temperatures_and_rails(tmp_path):
    reading = board(tmp_path).reading()

    assert reading.told.facts == {
        "gpu_clock_hz": 1020000000,
        "memory_clock_hz": None,
        "cpu_thermal_mc": 49468,
        "gpu_thermal_mc": 50125,
        "VDD_IN_mw": 9250,
    }
    assert reading.counts == {"over-current throttling": 37}


def test_a_zone_that_cannot_be_read_is_null_with_the_kernels_reason(tmp_path):
    """cv0-thermal answers EAGAIN while its engine is off; here it is a folder, which cannot be
    read either."""
    jetson = board(tmp_path)
    write(tmp_path, {"sys/class/thermal/thermal_zone2/type": "cv0-thermal\n"})
    (tmp_path / "sys/class/thermal/thermal_zone2/temp").mkdir()

    told = jetson.reading().told

    assert told.facts["cv0_thermal_mc"] is None
    assert told.missing["cv0_thermal_mc"] == "Is a directory"


def test_an_over_current_event_disturbs_the_block_it_happened_in(tmp_path):
    watch = Watch(board(tmp_path))
    before = watch.reading()
    write(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": "39\n"})

    change = watch.between(before, watch.reading())

    assert change.events == {"over-current throttling": 2}
    assert change.disturbances() == ("over-current throttling",)


def test_a_throttle_alert_disturbs_the_block_and_a_turning_fan_does_not(tmp_path):
    watch = Watch(board(tmp_path))
    quiet = watch.between(watch.reading(), watch.reading())
    write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})

    hot = watch.between(watch.reading(), watch.reading())

    assert quiet.disturbances() == ()
    assert hot.disturbances() == ("thermal throttling (gpu-throttle-alert)",)


def test_an_empty_board_tells_nothing_and_gives_a_reason_for_each(tmp_path):
    gone = OSError("nvpmodel: not found")
    jetson = Jetson(tmp_path, run=tools(gone, gone), jtop=lambda: "jtop is not installed")

    told = jetson.state()

    assert set(told.facts.values()) == {None}
    assert set(told.missing) == set(told.facts)
    assert "nvpmodel: not found; jtop is not installed" in told.missing["power_mode"]
    assert "/proc/device-tree/model" in told.missing["board"]
    assert jetson.reading().counts == {}


def test_a_tool_that_is_not_there_is_an_answer():
    answer = run_command(["no-such-tool-of-nvidia"])

    assert isinstance(answer, OSError)


def test_a_tool_that_fails_is_an_answer_with_what_it_said():
    answer = run_command([sys.executable, "-c", "import sys; sys.exit('run me as root')"])

    assert str(answer) == "run me as root"


def test_without_jtop_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jtop", None)

    assert "jetson-stats" in str(ask_jtop())


class Stopped(Exception):
    """jtop.JtopException, which is raised when its service is not active."""


class Service:
    """What `with jtop() as board` gives: the attributes that its documentation names."""

    nvpmodel = "MAXN_SUPER"

    def __init__(self, memory, alive=True):
        self.memory, self.alive = memory, alive

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def ok(self):
        return self.alive


def serve(monkeypatch, service):
    module = ModuleType("jtop")
    vars(module).update(jtop=lambda: service, JtopException=Stopped)
    monkeypatch.setitem(sys.modules, "jtop", module)


def test_jtops_kilohertz_become_hertz(monkeypatch):
    serve(monkeypatch, Service({"EMC": {"cur": 3199000, "min": 204000, "max": 3199000}}))

    assert ask_jtop() == {
        "power_mode": "MAXN_SUPER",
        "memory_clock_min_hz": 204000000,
        "memory_clock_max_hz": 3199000000,
        "memory_clock_hz": 3199000000,
    }


def test_a_board_on_which_jtop_has_no_memory_clock_leaves_it_null(monkeypatch):
    serve(monkeypatch, Service({}))

    assert ask_jtop() == {
        "power_mode": "MAXN_SUPER",
        "memory_clock_min_hz": None,
        "memory_clock_max_hz": None,
        "memory_clock_hz": None,
    }


def test_a_jtop_that_sends_nothing_is_an_answer(monkeypatch):
    serve(monkeypatch, Service({}, alive=False))

    assert ask_jtop() == "jtop: its service sends nothing"


def test_a_jtop_whose_service_is_stopped_is_an_answer(monkeypatch):
    def stopped():
        raise Stopped("The jtop.service is not active")

    module = ModuleType("jtop")
    vars(module).update(jtop=stopped, JtopException=Stopped)
    monkeypatch.setitem(sys.modules, "jtop", module)

    assert ask_jtop() == "jtop: The jtop.service is not active"
