"""Networks in ONNX's own text format, collapsed and run in float64 by the reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from pipeline.collapse import Collapsed, collapse
from pipeline.graphs.loading import normalise


def network(
    text: str, inputs: dict[str, tuple], weights: dict[str, tuple], output: str = "y", opset=20
) -> onnx.ModelProto:
    """`text` holds the nodes; weights are drawn, positive where their name starts with v."""
    generator = np.random.default_rng(0)
    declared = ", ".join(f"double[{','.join(map(str, s))}] {n}" for n, s in inputs.items())
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>'
        f"g ({declared}) => (double[] {output}) {{ {text} }}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, shape in weights.items():
        array = generator.standard_normal(shape)
        array = np.abs(array) + 0.5 if name.startswith("v") else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def with_sizes(proto: onnx.ModelProto, **sizes: list[int]) -> onnx.ModelProto:
    for name, values in sizes.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    return proto


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    (output,) = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    return np.asarray(output)


def collapsed_same(proto: onnx.ModelProto, **how) -> Collapsed:
    """Collapse and check that nothing but the graph changed."""
    source = normalise(ir.from_proto(proto))
    generator = np.random.default_rng(1)
    feeds = {}
    for value in source.graph.inputs:
        shape = [d if isinstance(d, int) else 6 for d in value.shape or ()]
        feeds[value.name or ""] = generator.standard_normal(shape)
    before = run(source, feeds)

    done = collapse(source, **how)

    reference = run(done.reference, feeds)
    after = run(done.model, feeds)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, reference, rtol=1e-10, atol=1e-10 * np.abs(before).max())
    if not any(merged.border == "moved" for merged in done.merges):
        np.testing.assert_array_equal(reference, before)
    return done


def operators(done: Collapsed) -> list[str]:
    return [node.op_type for node in done.model.graph]


IMAGE = {"x": ("n", 3, 8, 9)}
NORM = "BatchNormalization <epsilon=0.01>"
