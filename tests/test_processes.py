"""Two processes of torchrun's kind on gloo give what one process gives."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.multiprocessing.spawn import spawn

from pipeline.activations import collect
from pipeline.datasets import Split
from pipeline.edits.processes import process_group, rank, share, world
from pipeline.edits.tracing import trace
from pipeline.finetune import Schedule, distil
from runtimes.errors import InputError

COUNTERS = ("positive", "negative", "zero", "saturated")
SUMS = ("z", "zz", "psi", "psi_psi", "z_psi")


def network() -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(54, 3),
    )
    return trace(model, torch.zeros(2, 1, 8, 8))


def samples() -> Split:
    noise = torch.Generator().manual_seed(1)
    return Split(torch.randn(64, 1, 8, 8, generator=noise), torch.arange(64) % 3)


def work(folder: Path) -> None:
    """What one process does, alone or beside others: count its share, and fine-tune."""
    split, model = samples(), network()
    found = collect(model, share(split.images).split(8), step=lambda _: None)
    arrays = {
        f"{site.id}.{name}": getattr(site, name)
        for site in found.sites
        for name in (*COUNTERS, *SUMS, "count")
    }
    np.savez(folder / f"counters-{world()}-{rank()}.npz", allow_pickle=False, **arrays)
    distil(
        model,
        network(),
        split,
        Schedule(3, batch_size=16, learning_rate=0.1, weight_decay=1e-3, flip=True),
        weight=0.3,
        temperature=2.0,
        seed=5,
        step=lambda _: None,
    )
    torch.save(model.state_dict(), folder / f"weights-{world()}-{rank()}.pt")


def one_of_two(index: int, folder: Path) -> None:
    settings = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in settings.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    torch.set_num_threads(1)
    with process_group():
        work(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    spawn(one_of_two, (folder,), nprocs=2)
    work(folder)
    return folder


@pytest.mark.parametrize("process", [0, 1])
def test_two_processes_give_the_same_counters_exactly(folder, process):
    with (
        np.load(folder / "counters-1-0.npz") as alone,
        np.load(folder / f"counters-2-{process}.npz") as together,
    ):
        assert len(alone.files) == 2 * 10
        for name in alone.files:
            if name.rpartition(".")[2] in (*COUNTERS, "count"):
                assert np.array_equal(alone[name], together[name]), name
            else:
                np.testing.assert_allclose(alone[name], together[name], rtol=1e-6)


@pytest.mark.parametrize("process", [0, 1])
def test_two_processes_fine_tune_to_the_same_weights(folder, process):
    alone = torch.load(folder / "weights-1-0.pt", weights_only=True)
    together = torch.load(folder / f"weights-2-{process}.pt", weights_only=True)
    before = network().state_dict()

    assert alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5, msg=name)
    assert max(float((alone[n] - before[n]).abs().max()) for n in alone) > 0.05


def test_alone_the_share_is_everything():
    batch = torch.arange(5)

    assert torch.equal(share(batch), batch)
    assert (rank(), world()) == (0, 1)


def test_a_batch_that_cannot_be_shared_equally_is_refused(monkeypatch):
    monkeypatch.setattr("pipeline.finetune.world", lambda: 3)

    with pytest.raises(InputError, match="batch_size 16 cannot be shared equally by 3 processes"):
        distil(
            network(),
            network(),
            samples(),
            Schedule(1, batch_size=16, learning_rate=0.1, weight_decay=0.0),
            weight=0.0,
            temperature=1.0,
            seed=0,
            step=lambda _: None,
        )
