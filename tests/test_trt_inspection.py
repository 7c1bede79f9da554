"""The inspector's words, as TensorRT 10 and 11 write them, become precisions."""

import json

import pytest

from runtimes.trt_inspection import narrowest, read_inspection


def layer(types, kind="CaskConvolution", **more):
    return {"Name": "conv", "LayerType": kind, "Inputs": types[:1], "Outputs": types[1:], **more}


def read(*layers):
    return read_inspection(json.dumps({"Layers": list(layers), "Bindings": ["x", "y"]}))


@pytest.mark.parametrize(
    ("said", "precision"),
    [
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Format/Datatype": "Float"}, "fp32"),
        ({"Format/Datatype": "Int8"}, "int8"),
        ({"Format/Datatype": "BFloat16"}, "bf16"),
        ({"Format/Datatype": "Row major linear FP32"}, "fp32"),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "fp16"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
        ({"Format": "Row major linear format (kLINEAR)", "DataType": "Half"}, "fp16"),
        ({"Format": "kLINEAR", "Datatype": "FP8"}, "fp8"),
        ({"Format/Datatype": "Int32"}, None),
        ({}, None),
    ],
)
def test_a_type_is_read_as_each_release_writes_it(said, precision):
    (found,) = read(layer([said]))

    assert found.precision == precision


def test_a_layer_computes_in_the_narrowest_of_its_types():
    (found,) = read(layer([{"Format/Datatype": "Int8"}, {"Format/Datatype": "Half"}]))

    assert found.precision == "int8"


def test_the_type_of_the_weights_decides_where_it_is_told():
    types = [{"Format/Datatype": "Float"}, {"Format/Datatype": "Int8"}]

    (found,) = read(layer(types, Weights={"Type": "Float", "Count": 108}))

    assert found.precision == "fp32"


def test_what_only_moves_data_does_not_count():
    half = {"Format/Datatype": "Half"}
    moved = layer([half, half], kind="Reformat")
    computed = layer([{"Format/Datatype": "Float"}] * 2)

    assert narrowest(read(moved, computed)) == "fp32"
    assert narrowest(read(moved)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Layers": ["conv + relu"]}'])
def test_an_inspector_without_details_names_no_precision(text):
    assert narrowest(read_inspection(text)) is None
