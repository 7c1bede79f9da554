import pytest
import torch
from torch import nn

from pipeline.datasets import Split
from pipeline.edits.surgery import detached_copy
from pipeline.edits.tracing import trace
from pipeline.finetune import Schedule, accuracy, distil, predict, train
from runtimes.errors import InputError

SCHEDULE = Schedule(epochs=4, batch_size=20, learning_rate=0.05, weight_decay=0.0)


def no_step(_: int) -> None:
    pass


def network() -> nn.Module:
    """Flattens a map, which a network in another memory format must survive."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3)
    )


@pytest.fixture
def split() -> Split:
    torch.manual_seed(1)
    images = torch.randn(200, 1, 6, 6)
    labels = images[:, 0, :3].mean((1, 2)).gt(0).long() + images[:, 0, 3:].mean((1, 2)).gt(0).long()
    return Split(images, labels)


def test_training_learns(split):
    model = network()
    before = accuracy(model.eval(), split)
    train(model, split, SCHEDULE, seed=0, step=no_step)

    assert accuracy(model, split) > max(0.7, before)
    assert not model.training


def test_the_same_seed_gives_the_same_weights(split):
    first, second, other = network(), network(), network()
    for model, seed in ((first, 3), (second, 3), (other, 4)):
        train(model, split, SCHEDULE, seed=seed, step=no_step)

    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


def test_distillation_brings_the_student_to_the_teacher(split):
    teacher = trace(network().eval(), split.images[:2])
    student = detached_copy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    def distance() -> float:
        return float((predict(student, split.images) - predict(teacher, split.images)).norm())

    before = distance()
    schedule = Schedule(epochs=15, batch_size=20, learning_rate=0.05, weight_decay=0.0)
    distil(student, teacher, split, schedule, weight=1.0, temperature=2.0, seed=0, step=no_step)

    assert distance() < 0.8 * before


def test_the_teacher_does_not_change(split):
    teacher = trace(network().eval(), split.images[:2])
    student = detached_copy(teacher)
    before = predict(teacher, split.images)
    distil(student, teacher, split, SCHEDULE, weight=0.5, temperature=2.0, seed=0, step=no_step)

    assert torch.equal(predict(teacher, split.images), before)


def test_every_sample_is_counted_once_an_epoch(split):
    counted: list[int] = []
    train(network(), split, SCHEDULE, seed=0, step=counted.append)

    assert sum(counted) == 4 * 200


def test_a_batch_larger_than_the_data_is_refused(split):
    schedule = Schedule(epochs=1, batch_size=201, learning_rate=0.1, weight_decay=0.0)

    with pytest.raises(InputError, match="batch_size 201"):
        train(network(), split, schedule, seed=0, step=no_step)


def test_training_that_diverges_says_so(split):
    schedule = Schedule(epochs=4, batch_size=20, learning_rate=1e20, weight_decay=0.0)

    with pytest.raises(InputError, match=r"diverged.*learning_rate 1e\+20"):
        train(network(), split, schedule, seed=0, step=no_step)


def test_accuracy_is_the_share_of_right_answers(split):
    def right_for_one(images: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.ones(len(images), dtype=torch.long), 3).float()

    assert accuracy(right_for_one, split) == float((split.labels == 1).double().mean())
