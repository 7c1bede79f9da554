import pytest
from fake_sdks import fake_tensorrt

from profiles.target import SHIPPED, Target, find_target, read_target, target_names
from runtimes.base import make
from runtimes.errors import InputError


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_target_loads(path):
    assert read_target(path).name == path.stem


def test_the_devices_of_the_documentation_are_shipped():
    assert {path.stem for path in SHIPPED.glob("*.toml")} == {
        "x86-cpu", "x86-openvino", "a100", "h100", "l4",
        "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-thor",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("[!x]*.toml")))
def test_a_shipped_device_says_how_its_clocks_are_to_be_and_where_its_python_is(name):
    target = find_target(name)
    jetson = name.startswith("jetson")

    assert (target.transport, target.host, target.python) == ("ssh", name, "python3")
    assert target.clocks == ("jetson_clocks" if jetson else "locked")
    assert bool(target.power_mode) is jetson


def test_the_users_own_folder_wins(tmp_path, monkeypatch):
    (tmp_path / "x86-cpu.toml").write_text('runtime = "null"')
    (tmp_path / "board.toml").write_text('runtime = "null"\ntransport = "ssh"\nhost = "b"')
    monkeypatch.setenv("SHOAL_TARGETS", str(tmp_path))

    assert find_target("x86-cpu").runtime == "null"
    assert "board" in target_names()


def test_an_extra_folder_is_searched_first(tmp_path):
    (tmp_path / "x86-cpu.toml").write_text('runtime = "null"')

    assert find_target("x86-cpu", tmp_path).runtime == "null"


def test_an_unknown_target_lists_the_known_and_the_nearest():
    with pytest.raises(InputError, match=r"x86-openvino; did you mean 'x86-cpu'"):
        find_target("x86-cp")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('runtime = "ort"\nthreats = 2', "did you mean 'threads'"),
        ('runtime = "ort"\nthreads = "2"', "which is no int"),
        ('runtime = "ort"\nthreads = 0', "at least 1"),
        ("threads = 1", "'runtime' is missing"),
        ("runtime = ", "is not TOML"),
        ('runtime = "ort"\ntransport = "ssh"', "needs host"),
        ('runtime = "ort"\ntransport = "carrier pigeon"', "local or ssh"),
        ('runtime = "ort"\nthreads = 2\ncores = [0]', "need as many cores"),
        ('runtime = "trt"\nsettings = 5', "which is no dict"),
        ('runtime = "trt"\nclocks = "jetson_clock"', "one of locked, jetson_clocks, not"),
    ],
)
def test_a_mistaken_target_file_is_refused(tmp_path, text, match):
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(InputError, match=match):
        find_target("mine", tmp_path)


def test_a_target_is_local_unless_it_says_otherwise():
    assert Target("t", "ort").transport == "local"


def test_settings_of_the_runtime_are_a_table_of_their_own(tmp_path):
    (tmp_path / "board.toml").write_text('runtime = "trt"\n[settings]\ncuda_graph = true')

    assert find_target("board", tmp_path).settings == {"cuda_graph": True}


GPUS = (
    "a100",
    "h100",
    "jetson-agx-orin",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-thor",
    "l4",
)


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_target_is_reached_by_ssh_and_asks_for_settings_that_exist(name, monkeypatch):
    target = find_target(name)

    with fake_tensorrt(monkeypatch, "10.3.0", "pycuda 2026.1"):
        made = make(target.runtime, target.device, target.settings)

    assert (target.transport, target.runtime) == ("ssh", "trt")
    assert made.version() == "10.3.0"


def test_a_recipe_beside_the_targets_is_not_listed_as_one(tmp_path):
    (tmp_path / "job.toml").write_text('name = "job"')
    (tmp_path / "board.toml").write_text('runtime = "ort"')

    names = target_names(tmp_path)

    assert "board" in names
    assert "job" not in names
