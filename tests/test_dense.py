"""Weights from a file: what is wrong with them is one line."""

import pytest
import torch
from torch import nn

from pipeline.jobs.dense import load_weights
from runtimes.errors import InputError


def test_weights_come_back_as_they_were(tmp_path):
    one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(one.state_dict(), tmp_path / "weights.pt")

    load_weights(other, tmp_path / "weights.pt")

    torch.testing.assert_close(other.weight, one.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no weights", "is no file of weights: torch says"),
        (b"", "is no file of weights: torch says"),
        ([1, 2], "holds a list, not weights by name"),
        ({"weight": torch.zeros(3, 2)}, r'Missing key.*"bias"'),
        (nn.Linear(4, 5).state_dict(), r"size mismatch for weight.*and 1 more"),
        (nn.Linear(2, 3), "is no file of weights: torch says"),
    ],
)
def test_a_file_without_weights_of_this_model_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)

    with pytest.raises(InputError, match=said) as refused:
        load_weights(nn.Linear(2, 3), path)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 450 + len(str(path))
