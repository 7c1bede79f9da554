import numpy as np
import pytest

from profiles.predictions import read_correct
from runtimes.errors import InputError


def test_predictions_are_read_from_npz_and_from_npy(tmp_path):
    np.savez(tmp_path / "p.npz", predicted=np.array([1, 2, 3]), labels=np.array([1, 0, 3]))
    np.save(tmp_path / "p.npy", np.array([1, 0, 0]))

    ours, theirs = read_correct(tmp_path / "p.npz", tmp_path / "p.npy")

    assert ours.tolist() == [True, False, True]
    assert theirs.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"predicted": [1]}, "needs `predicted` and `labels`"),
        ({"predicted": [[0.1, 0.9]], "labels": [1]}, r"not of shapes \(1, 2\) and \(1,\)"),
        ({"predicted": [1, 2, 3], "labels": [3, 1, 2]}, "3 of 3 labels differ"),
        ({"predicted": [1, 2], "labels": [1, 2]}, "has 3, .* has 2"),
    ],
)
def test_predictions_that_are_not_of_the_same_samples_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", predicted=np.array([1, 2, 3]), labels=np.array([1, 2, 3]))
    held = {name: np.array(values) for name, values in arrays.items()}
    np.savez(tmp_path / "b.npz", allow_pickle=False, **held)

    with pytest.raises(InputError, match=said):
        read_correct(tmp_path / "a.npz", tmp_path / "b.npz")


@pytest.mark.parametrize("classes", [[7, 2, 9], [0.3, 0.5, 1.0], [[0, 1, 1]]])
def test_classes_are_not_mistaken_for_right_and_wrong(tmp_path, classes):
    np.save(tmp_path / "p.npy", np.array(classes))

    with pytest.raises(InputError, match=r"one 0 \(wrong\) or 1 \(right\) per sample"):
        read_correct(tmp_path / "p.npy", tmp_path / "p.npy")


def test_a_text_is_no_file_of_predictions(tmp_path):
    (tmp_path / "text.npy").write_text("0.9227")

    with pytest.raises(InputError, match="holds no predictions"):
        read_correct(tmp_path / "text.npy", tmp_path / "text.npy")
