import pytest

from profiles.target import SHIPPED, Target, find_target, read_target, target_names
from runtimes.errors import InputError


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_target_loads(path):
    assert read_target(path).name == path.stem


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
    ],
)
def test_a_mistaken_target_file_is_refused(tmp_path, text, match):
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(InputError, match=match):
        find_target("mine", tmp_path)


def test_a_target_is_local_unless_it_says_otherwise():
    assert Target("t", "ort").transport == "local"
