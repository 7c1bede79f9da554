"""The dynamic programme against every way there is to cut a chain."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from pipeline.collapse.cutting import cut, fewest_macs, fewest_operators
from pipeline.collapse.fusing import Form, Rules, fuse
from pipeline.collapse.structure import Block, Leaf, find_chains
from pipeline.graphs.loading import normalise


def chain_of(seed: int, length: int) -> tuple:
    """Convolutions of drawn widths and kernels, some of them depthwise, none padded."""
    generator = np.random.default_rng(seed)
    channels = 4
    lines, weights, value = [], {}, "x"
    for index in range(length):
        depthwise = generator.random() < 0.3
        kernel = int(generator.choice([1, 1, 2, 3]))
        out = channels if depthwise else int(generator.choice([2, 4, 8, 24]))
        group = channels if depthwise else 1
        lines.append(f"h{index} = Conv <group={group}> ({value}, w{index})")
        weights[f"w{index}"] = (out, channels // group, kernel, kernel)
        channels, value = out, f"h{index}"
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 20]> g (float[n,4,24,24] x) => (float[n,a,b,c] y) {'
        + "\n".join(lines)
        + f" y = Identity ({value}) }}"
    )
    for name, shape in weights.items():
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    (chain,) = find_chains(normalise(ir.from_proto(proto)))
    assert len(chain) == length
    return chain


def every_cost(chain: tuple, rules: Rules, weigh) -> list[tuple[int, int]]:
    """Of all partitions into runs that can be one operator each."""
    costs = []
    for breaks in product([False, True], repeat=len(chain) - 1):
        ends = [0, *(index + 1 for index, broken in enumerate(breaks) if broken), len(chain)]
        runs = [chain[start:end] for start, end in pairwise(ends)]
        forms = [fuse(run, rules) for run in runs]
        if all(isinstance(form, Form) for form in forms):
            parts = [weigh(form.macs, 1) for form in forms if isinstance(form, Form)]
            costs.append((sum(part[0] for part in parts), sum(part[1] for part in parts)))
    return costs


@pytest.mark.parametrize("weigh", [fewest_macs, fewest_operators])
@pytest.mark.parametrize("seed", range(12))
def test_no_other_cut_is_cheaper(seed, weigh):
    chain = chain_of(seed, 2 + seed % 5)
    rules = Rules(max_kernel=5, move_padding=False)

    assert cut(chain, rules, weigh).cost == min(every_cost(chain, rules, weigh))


def test_some_of_these_chains_are_worth_cutting_in_the_middle():
    """Else the comparison above would not tell the programme from merging all or nothing."""
    rules = Rules(max_kernel=5, move_padding=False)

    sizes = {
        len(cut(chain_of(seed, 2 + seed % 5), rules, fewest_macs).merges) for seed in range(12)
    }

    assert {1, 2} <= sizes


def test_nested_shortcuts_are_blocks_within_blocks():
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 20]> g (float[n,3,8,8] x) => (float[n,3,8,8] y) {'
        "a = Conv (x, w) b = Add (a, x) c = Conv (b, w) y = Add (x, c) }"
    )
    weight = np.ones((3, 3, 1, 1), dtype=np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.checker.check_model(proto)

    (chain,) = find_chains(normalise(ir.from_proto(proto)))

    (outer,) = chain
    assert isinstance(outer, Block)
    inner, leaf = outer.branch
    assert isinstance(inner, Block)
    assert isinstance(leaf, Leaf)
    assert outer.shortcut == inner.shortcut == ()
