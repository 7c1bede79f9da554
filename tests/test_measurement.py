import json
import math
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from profiles.comparison import difference_ms, log_ratios, ratio
from profiles.environment import DECISIVE, Fingerprint, fingerprint
from profiles.fitness import judge
from profiles.measurement import Block, Measurement, Round, read_measurement, write_measurement
from runtimes.base import Artifact
from runtimes.errors import InputError, NothingMeasured

ROUND = Round(1.0, 0.5, None, 10, 1.0, True, (0,))


def measurement(name="a.onnx", scale=1.0, rounds=10, disturbed=0, **identity):
    """Rounds of three pairs; the round's own speed varies, the ratio between names does not."""
    blocks = tuple(
        Block(
            number, pair, 0, 0, (int(scale * 1e6 * (1 + number)),) * 5,
            ("steal",) if number * 3 + pair < disturbed else (),
        )
        for number in range(rounds)
        for pair in range(3)
    )  # fmt: skip
    return Measurement(
        artifact=Artifact(Path(name), "0" * 64, "fp32", 1),
        target="x86-cpu",
        metric="host_ms",
        identity={"threads": "1", "batch": "1", **identity},
        fingerprint=Fingerprint({"cores": 2, "governor": None}, {"governor": "not there"}),
        rounds=(ROUND,) * rounds,
        blocks=blocks,
    )


def test_it_survives_a_round_trip_through_its_file(tmp_path):
    before = measurement()

    write_measurement(before, tmp_path / "m.json")

    assert read_measurement(tmp_path / "m.json") == before


def test_another_schema_version_is_refused(tmp_path):
    write_measurement(measurement(), tmp_path / "m.json")
    stored = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps({**stored, "schema": "shoal.measurement/9"}))

    with pytest.raises(InputError, match="measurement/9"):
        read_measurement(tmp_path / "m.json")


def test_the_median_is_over_rounds():
    assert measurement(rounds=3).median_ms == 2.0


def test_the_ratio_is_free_of_what_a_round_shares():
    estimate = ratio(measurement("b.onnx", 1.1), measurement())

    assert (estimate.value, estimate.lo, estimate.hi) == pytest.approx((1.1, 1.1, 1.1))


def test_a_rounds_value_is_the_median_of_its_pairs():
    times = ((2.0, 1.0), (3.0, 1.0), (7.0, 1.0))
    sides = [
        replace(measurement(rounds=1), blocks=tuple(
            Block(0, pair, 0, 0, (round(both[side] * 1e6),)) for pair, both in enumerate(times)
        ))
        for side in (0, 1)
    ]  # fmt: skip

    (value,) = log_ratios(sides[0], sides[1])
    assert math.isclose(value, math.log(3.0))
    assert sides[0].median_ms == 3.0


def test_the_difference_is_in_milliseconds():
    estimate = difference_ms(measurement("b.onnx", 1.5, rounds=1), measurement(rounds=1))

    assert estimate.value == pytest.approx(0.5)


def test_another_identity_never_compares_and_is_named():
    with pytest.raises(InputError, match=r"threads: 2 and 1"):
        ratio(measurement(threads="2"), measurement())


def test_a_difference_that_is_the_question_may_be_crossed():
    int8 = measurement(precision="int8")

    assert log_ratios(int8, measurement(precision="fp32"), across=("precision",))


def test_what_was_not_measured_side_by_side_gives_no_ratio():
    apart = replace(measurement(), blocks=(Block(99, 0, 0, 0, (1,)),))

    with pytest.raises(NothingMeasured, match="measure both in one call"):
        ratio(apart, measurement())


@pytest.mark.parametrize(("disturbed", "verdict"), [(0, "fit"), (9, "fit"), (10, "unfit")])
def test_more_than_thirty_percent_disturbed_is_unfit(disturbed, verdict):
    assert judge([measurement(disturbed=disturbed)]).verdict == verdict


def test_a_quota_below_the_threads_is_unfit():
    tight = replace(measurement(), fingerprint=Fingerprint({"cgroup_quota": "50000 100000"}))

    fitness = judge([tight])

    assert not fitness.fit
    assert "0.5 cores" in fitness.reasons[0]


def test_warm_up_that_never_settled_is_noted():
    unsettled = replace(measurement(), rounds=(replace(ROUND, stable=False),))

    assert "before settling in 1 of 1" in judge([unsettled]).notes[0]


def test_a_device_in_another_power_mode_than_asked_is_unfit():
    known = Fingerprint({"power_mode": "15W"}).asked(power_mode="MAXN", clocks=None)

    fitness = judge([replace(measurement(), fingerprint=known)])

    assert fitness.reasons == ("the power mode is 15W, not MAXN: sudo nvpmodel -m <its number>",)


def test_other_processes_on_the_gpu_are_noted():
    shared = replace(measurement(), fingerprint=Fingerprint({"gpu_other_processes": 2}))

    assert "2 other processes had the GPU open to compute on it" in judge([shared]).notes


def test_what_cannot_be_read_is_null_with_a_reason():
    known = fingerprint()

    unknown = {name for name, value in known.facts.items() if value is None}
    assert unknown == set(known.missing)
    assert set(DECISIVE) <= set(known.facts)


def test_two_hosts_differ_by_what_decides_and_not_by_their_load():
    here = Fingerprint({"cpu_model": "A", "load": "0.1"})
    there = Fingerprint({"cpu_model": "B", "load": "9.9"})

    assert here.difference(there) == ("cpu_model: A and B",)


def test_a_full_disk_leaves_no_half_file_and_is_one_error(tmp_path):
    """The kernel refuses the write in the middle, as a full disk does."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from test_measurement import measurement\n"
        "from profiles.measurement import write_measurement\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
        "write_measurement(measurement(), Path(sys.argv[1]))\n"
    )
    path = tmp_path / "m.json"

    done = subprocess.run(
        [sys.executable, "-B", "-c", script, path], capture_output=True, text=True,
        cwd=Path(__file__).parent, check=False,
        env={"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip

    assert "NothingMeasured: the samples could not be written" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2048
