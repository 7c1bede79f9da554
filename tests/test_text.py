"""Networks of `input_ids` and `attention_mask`, from training to merged matrices."""

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from pipeline.activations import Statistics, collect
from pipeline.collapse import certify, collapse
from pipeline.criteria import Evidence, make, names
from pipeline.datasets import Split
from pipeline.edits.surgery import detached_copy
from pipeline.edits.tracing import sites, trace
from pipeline.export import export
from pipeline.finetune import Schedule, accuracy, distil, predict, train
from pipeline.jobs.candidate import CERTIFICATE_TOLERANCE
from pipeline.linearise import carries_out, group_weights, linearise
from pipeline.mapping import load_model, map_model
from pipeline.models import build_model
from pipeline.networks.tokens import arguments
from pipeline.plans.workbench import Bench
from pipeline.verify import verify
from profiles.target import find_target
from runtimes.errors import InputError

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 20,
}
ADAMW = Schedule(epochs=4, batch_size=20, learning_rate=5e-3, weight_decay=0.01, optimizer="adamw")


def no_step(_: int) -> None:
    pass


def texts(count: int, *, length: int = 12, seed: int = 0) -> Split:
    """Random tokens, padded by up to ten; the second one says which class it is."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 50, (count, length), generator=rng)
    labels = torch.randint(0, 2, (count,), generator=rng)
    ids[:, 1] = 2 + labels
    mask = (torch.arange(length) < torch.randint(2, length + 1, (count, 1), generator=rng)).long()
    return Split(torch.stack([ids * mask, mask], 1), labels)


def network(kind: str = "bert") -> nn.Module:
    spec = f"transformers:{kind}"
    return build_model(spec, num_classes=2, in_channels=None, vocabulary=50, seed=0, options=TINY)


@pytest.fixture(scope="module")
def trained():
    model, split = network(), texts(400)
    train(model, split, ADAMW, seed=0, step=no_step)
    return model, trace(model, split.images[:2]), split


def test_padding_columns_of_a_whole_batch_are_left_out():
    batch = torch.tensor([[[5, 6, 0, 0], [1, 1, 0, 0]], [[7, 8, 9, 0], [1, 1, 1, 0]]])

    ids, mask = arguments(batch)

    assert ids.tolist() == [[5, 6, 0], [7, 8, 9]]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_images_are_given_as_they_are():
    image = torch.randn(2, 2, 4)

    assert arguments(image)[0] is image


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_traced_encoder_computes_the_same_at_other_batches_and_lengths(kind):
    model = network(kind)
    traced = trace(model, texts(2).images)

    for count, length in ((1, 3), (7, 16)):
        batch = arguments(texts(count, length=length, seed=1).images)
        torch.testing.assert_close(traced(*batch), model(*batch), rtol=1e-5, atol=1e-6)
    assert [site.kind for site in sites(traced)] == ["gelu", "gelu"]


def test_adamw_teaches_the_network_its_task(trained):
    model, _, _ = trained

    assert accuracy(model, texts(200, seed=1)) > 0.95


def test_dropout_is_the_same_for_the_same_seed_whatever_ran_before():
    first, second = network(), network()
    schedule = Schedule(1, 20, 1e-3, 0.0, optimizer="adamw")
    for model in (first, second):
        torch.rand(3)
        train(model, texts(60), schedule, seed=3, step=no_step)

    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_every_text_is_seen_once_an_epoch_in_batches_of_like_length():
    split, seen = texts(1_000), []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(50, 2))

        def forward(self, input_ids, attention_mask):
            seen.append((int(attention_mask.sum()), attention_mask.numel()))
            return self.weight[input_ids].sum(1)

    train(Watching(), split, Schedule(1, 20, 1e-6, 0.0), seed=0, step=no_step)

    assert sum(tokens for tokens, _ in seen) == int(split.images[:, 1].sum())
    assert sum(tokens for tokens, _ in seen) > 0.9 * sum(places for _, places in seen)


def test_mirrored_texts_are_refused():
    schedule = Schedule(1, 20, 1e-3, 0.0, flip=True)

    with pytest.raises(InputError, match="flip = true mirrors images, and the data are text"):
        train(network(), texts(40), schedule, seed=0, step=no_step)


def test_statistics_of_a_padded_batch_are_those_of_its_texts_alone(trained):
    _, traced, split = trained
    batch = split.images[:30]

    together = collect(traced, [batch], step=no_step)
    alone = collect(traced, batch.split(1), step=no_step)

    for one, other in zip(together.sites, alone.sites, strict=True):
        assert one.count == other.count == int(batch[:, 1].sum())
        assert abs(one.positive - other.positive).max() <= 1  # a sum in another order
        assert abs(one.zz - other.zz).max() < 1e-3 * one.zz.max()


@pytest.fixture(scope="module")
def known(trained) -> Statistics:
    _, traced, split = trained
    return collect(traced, split.images[:100].split(50), step=no_step)


@pytest.mark.parametrize("criterion", names())
def test_every_criterion_scores_and_reduces_a_network_of_text(trained, known, criterion):
    _, traced, split = trained
    evidence = Evidence(traced, known, split.first(100))

    scored = make(criterion, {}).score(evidence)
    reduced = make(criterion, {}).reduce(evidence, 1)

    assert {s.id for s in scored.sites} == {s.id for s in sites(traced)}
    assert all(len(s.neurons) == 64 for s in scored.sites)
    assert torch.isfinite(predict(reduced, split.images[:10])).all()


@pytest.fixture(scope="module")
def shallow(trained, known, tmp_path_factory):
    """Both MLPs linearised, fine-tuned, exported and merged."""
    model, traced, split = trained
    folder = tmp_path_factory.mktemp("text")
    dense = load_model(export(model, split.images[:2], folder / "dense.onnx"))
    map_ = map_model(dense)
    merges = [option for option in map_.options if option.kind == "merge"]
    chosen = [o for o in merges if carries_out(traced, map_.segment(o.segment), o)]
    student = linearise(traced, map_, chosen, statistics=known, stencils={})
    schedule = Schedule(2, 20, 1e-3, 0.0, optimizer="adamw")
    teacher = detached_copy(traced)
    distil(student, teacher, split, schedule, weight=0.5, temperature=2.0, seed=1, step=no_step)
    linear = load_model(export(student, split.images[:2], folder / "student.onnx"))
    groups = [group_weights(map_.segment(o.segment), o) for o in chosen]
    return folder, dense, map_, chosen, student, linear, collapse(linear, merge=groups)


def test_every_linearised_mlp_becomes_one_matrix(shallow):
    _, dense, _, chosen, _, linear, collapsed = shallow

    assert len(chosen) == len(collapsed.merges) == 2
    assert {m.geometry.in_channels for m in collapsed.merges} == {16}
    assert map_model(collapsed.model).depth == map_model(dense).depth - 2
    assert not map_model(collapsed.model).sites
    assert certify(linear, collapsed.model, tolerance=CERTIFICATE_TOLERANCE, seed=0).passed


@pytest.mark.parametrize("target", ["x86-cpu", "x86-openvino"])
def test_the_artifact_takes_both_inputs_at_any_batch_and_length(shallow, target):
    folder, _, _, _, student, _, collapsed = shallow
    path = folder / f"{target}.onnx"
    ir.save(collapsed.model, path)

    inputs = onnx.load(path).graph.input
    dimensions = [[d.dim_param for d in i.type.tensor_type.shape.dim] for i in inputs]
    split = texts(520, length=17, seed=5)  # a second chunk of another batch and length
    parity = verify(
        path, find_target(target), predict(student, split.images), split, tolerance=1e-4
    )

    assert [i.name for i in inputs] == ["input_ids", "attention_mask"]
    assert dimensions == [["batch", "length"], ["batch", "length"]]
    assert parity.passed
    assert parity.images == 520


def test_a_network_of_text_is_measured_at_the_length_that_is_given(shallow, tmp_path):
    _, dense, map_, *_ = shallow
    sizes = {"input_ids": (12,), "attention_mask": (12,)}
    bench = Bench(dense, map_, tmp_path, seed=0, rounds=1, sizes=sizes)

    assert bench.keep(find_target("x86-cpu")).measured.latency_ms.value > 0


def test_images_for_a_model_of_text_and_text_for_one_of_images_are_refused():
    with pytest.raises(InputError, match="'transformers:bert' takes text, and the data are images"):
        build_model("transformers:bert", num_classes=2, in_channels=3, seed=0)
    with pytest.raises(InputError, match="'resnet18' takes images, and the data are text"):
        build_model("resnet18", num_classes=2, in_channels=None, vocabulary=50, seed=0)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("transformers:brt", {}, "no model type 'brt' .did you mean .*bert"),
        ("transformers:bert", {"layers": 2}, "transformers:bert has no layers"),
        ("transformers:bert", {"hidden_size": 15, "num_attention_heads": 2}, "is no encoder"),
        ("transformers:distilbert", {}, "is no encoder that shoal can use"),
    ],
)
def test_a_wrong_transformer_is_one_clear_error(spec, options, message):
    with pytest.raises(InputError, match=message):
        build_model(spec, num_classes=2, in_channels=None, vocabulary=50, seed=0, options=options)
