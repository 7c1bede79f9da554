"""Make linear operators adjacent: fold per-channel constants into them, drop what does nothing.

after:    a * (W x + b) + c  =  (a W) x + (a b + c)              always exact
before:   W (a x + c) + b    =  (W a) x + (W c + b)              exact where W pads nothing
LayerNorm's own scale and shift are such an affine in front of the matrices that read it.
mean(W x + b) = W mean(x) + b for a pointwise W: the mean over space moves to the front.
"""

from __future__ import annotations

import onnx_ir as ir

from pipeline.collapse.commuting import hoist_mean, move_before_layout
from pipeline.collapse.folding import fold_into_operator, fold_norm
from pipeline.collapse.layout import evaluate
from pipeline.graphs.building import drop_unused_initializers, initializer, remove_dead
from pipeline.graphs.constants import constant
from pipeline.graphs.operators import glue_kind

FOLDABLE = {"Unsqueeze", "Squeeze", "Reshape", "Transpose", "Flatten", "Identity", "Cast"}


def tidy(model: ir.Model) -> None:
    """In place, until nothing changes."""
    changed = True
    while changed:
        changed = False
        for node in list(model.graph):
            if node.graph is None:
                continue
            changed |= any(rule(model, node) for rule in RULES)
    drop_unused_initializers(model)


def _fold_constant(model: ir.Model, node: ir.Node) -> bool:
    """Reshapes and transposes of weights are done now."""
    if node.op_type not in FOLDABLE or len(node.outputs) != 1 or not node.inputs:
        return False
    arrays = [constant(value) for value in node.inputs if value is not None]
    output = node.outputs[0]
    if any(array is None for array in arrays) or output.is_graph_output():
        return False
    folded = evaluate(node, arrays)
    if folded is None:
        return False
    value = initializer(model, f"{output.name}/constant", folded)
    output.replace_all_uses_with(value)
    remove_dead(model.graph, node)
    return True


def _bypass(model: ir.Model, node: ir.Node) -> bool:
    """Identity and inference-time Dropout."""
    value = node.inputs[0] if node.inputs else None
    if value is None or glue_kind(node, value) != "identity":
        return False
    output = node.outputs[0]
    if output.is_graph_output() and (value.producer() is None or value.is_graph_output()):
        return False
    if output.is_graph_output():
        name, output.name = output.name, f"{output.name}/replaced"
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        value.name = name
    else:
        output.replace_all_uses_with(value)
    remove_dead(model.graph, node)
    return True


RULES = (
    _fold_constant,
    _bypass,
    fold_into_operator,
    fold_norm,
    hoist_mean,
    move_before_layout,
)
