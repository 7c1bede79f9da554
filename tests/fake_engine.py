"""What a fake engine holds and does: graph, types, layers as TensorRT tells them, a run."""

import json
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, shape_inference

TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.DOUBLE: "DOUBLE",
}
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
         "INT64": "int64", "BOOL": "bool"}  # fmt: skip
SAID = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "BF16": "BFloat16"}
KINDS = {"Conv": "CaskConvolution", "Relu": "PointWiseV2", "Cast": "Reformat",
         "QuantizeLinear": "Reformat", "DequantizeLinear": "Reformat"}  # fmt: skip
Script = TypeVar("Script", bound=Callable[..., Any])

SCRIPTS: dict[str, Callable[..., Any]] = {}  # Class.method of TensorRT -> what plays it


def script(where: str) -> Callable[[Script], Script]:
    def enter(play: Script) -> Script:
        SCRIPTS[where] = play
        return play

    return enter


def dims(fake: Any, shape: list[int]) -> Any:
    return fake.new("Dims", sizes=tuple(shape))


@script("ILogger.__init__")
def logger_init(_fake: Any, _logger: Any) -> None:
    return None


@script("IProfiler.__init__")
def profiler_init(_fake: Any, _profiler: Any) -> None:
    return None


@script("Runtime.__init__")
def runtime_init(fake: Any, runtime: Any, logger: Any) -> None:
    fake.gpu.need_context()
    runtime._state["logger"] = logger


@script("Runtime.deserialize_cuda_engine")
def runtime_deserialize(fake: Any, runtime: Any, content: bytes) -> Any:
    facts = pickle.loads(bytes(content))
    if (facts["version"], facts["capability"]) != (fake.version, fake.gpu.capability):
        fake.complain(runtime, "The engine plan file is not compatible with this version")
        return None
    return fake.new("ICudaEngine", logger=runtime._state["logger"], **facts)


@script("ICudaEngine.num_io_tensors")
def engine_num_io_tensors(_fake: Any, engine: Any) -> int:
    return len(ports_of(engine))


@script("ICudaEngine.get_tensor_name")
def engine_get_tensor_name(_fake: Any, engine: Any, index: int) -> str:
    return list(ports_of(engine))[index]


@script("ICudaEngine.get_tensor_mode")
def engine_get_tensor_mode(fake: Any, engine: Any, name: str) -> Any:
    inputs = {port.name for port in model_of(engine).graph.input}
    return fake.module.TensorIOMode.INPUT if name in inputs else fake.module.TensorIOMode.OUTPUT


@script("ICudaEngine.get_tensor_dtype")
def engine_get_tensor_dtype(fake: Any, engine: Any, name: str) -> Any:
    kind = ports_of(engine)[name].type.tensor_type.elem_type
    return fake.module.DataType.__members__[TYPES[kind]]


@script("ICudaEngine.create_execution_context")
def engine_create_execution_context(fake: Any, engine: Any) -> Any:
    session = ort.InferenceSession(engine._state["onnx"], providers=["CPUExecutionProvider"])
    return fake.new("IExecutionContext", of=engine, session=session, shapes={}, at={},
                     warm=False, profiler=None, logger=engine._state["logger"])  # fmt: skip


@script("ICudaEngine.create_engine_inspector")
def engine_create_engine_inspector(fake: Any, engine: Any) -> Any:
    return fake.new("EngineInspector", of=engine)


@script("EngineInspector.get_engine_information")
def inspector_get_engine_information(fake: Any, inspector: Any, _format: Any) -> str:
    engine = inspector._state["of"]
    if fake.silent_inspector or not engine._state["detailed"]:
        return json.dumps({"Layers": [node.name for node in model_of(engine).graph.node]})
    return json.dumps({"Layers": layers_of(engine, split_types=fake.strong_only)})


@script("IExecutionContext.set_input_shape")
def context_set_input_shape(fake: Any, context: Any, name: str, shape: tuple) -> bool:
    declared = shape_of(ports_of(context._state["of"])[name])
    least, _, most = context._state["of"]._state["shapes"].get(name, (shape, shape, shape))
    fits = all(size in (-1, given) for size, given in zip(declared, shape, strict=True))
    if not fits or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
        fake.complain(context, f"{name}: {shape} is not in the profile")
        return False
    context._state["shapes"][name] = tuple(shape)
    return True


@script("IExecutionContext.infer_shapes")
def context_infer_shapes(_fake: Any, context: Any) -> list[str]:
    inputs = model_of(context._state["of"]).graph.input
    return [port.name for port in inputs if port.name not in context._state["shapes"]]


@script("IExecutionContext.get_tensor_shape")
def context_get_tensor_shape(fake: Any, context: Any, name: str) -> Any:
    if name in context._state["shapes"]:
        return dims(fake, context._state["shapes"][name])
    noise = zeros_for(context)
    names = [port.name for port in context._state["session"].get_outputs()]
    results = dict(zip(names, context._state["session"].run(None, noise), strict=True))
    values_decide = any(n.op_type == "NonZero" for n in model_of(context._state["of"]).graph.node)
    return dims(fake, [-1 if values_decide else size for size in results[name].shape])


@script("IExecutionContext.set_tensor_address")
def context_set_tensor_address(fake: Any, context: Any, name: str, at: int) -> bool:
    context._state["at"][name] = at
    return at in fake.gpu.memory


@script("IExecutionContext.execute_async_v3")
def context_execute_async_v3(fake: Any, context: Any, handle: int) -> bool:
    engine = context._state["of"]
    if set(ports_of(engine)) - set(context._state["at"]):
        fake.complain(context, "Address is not set for a tensor")
        return False
    if handle in fake.gpu.recording and not context._state["warm"]:
        fake.complain(context, "operation not permitted when stream is capturing")
        return False
    context._state["warm"] = True
    fake.gpu.enqueue(handle, lambda: compute(fake, context))
    return True


def compute(fake: Any, context: Any) -> None:
    engine, at = context._state["of"], context._state["at"]
    feeds = {
        name: np.frombuffer(
            bytes(fake.gpu.at(at[name], zeros.nbytes)[: zeros.nbytes]), zeros.dtype
        ).reshape(zeros.shape)
        for name, zeros in zeros_for(context).items()
    }
    outputs = context._state["session"].get_outputs()
    results = context._state["session"].run(None, feeds)
    for port, result in zip(outputs, results, strict=True):
        fake.gpu.at(at[port.name], result.nbytes)[: result.nbytes] = result.tobytes()
    if context._state["profiler"] is not None:
        for layer in layers_of(engine, split_types=False):
            context._state["profiler"].report_layer_time(layer["Name"], 0.125)


def zeros_for(context: Any) -> dict[str, np.ndarray]:
    ports = ports_of(context._state["of"])
    return {
        name: np.zeros(shape, NUMPY[TYPES[ports[name].type.tensor_type.elem_type]])
        for name, shape in context._state["shapes"].items()
    }


def model_of(engine: Any) -> onnx.ModelProto:
    return onnx.load_from_string(engine._state["onnx"])


def ports_of(engine: Any) -> dict[str, onnx.ValueInfoProto]:
    graph = model_of(engine).graph
    return {port.name: port for port in (*graph.input, *graph.output)}


def shape_of(port: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value if dim.HasField("dim_value") else -1
            for dim in port.type.tensor_type.shape.dim]  # fmt: skip


def types_of(model: onnx.ModelProto) -> dict[str, str]:
    graph = shape_inference.infer_shapes(model).graph
    ports = (*graph.input, *graph.output, *graph.value_info)
    types = {port.name: TYPES[int(port.type.tensor_type.elem_type)] for port in ports}
    return {**{weight.name: TYPES[weight.data_type] for weight in graph.initializer}, **types}


def layers_of(engine: Any, *, split_types: bool) -> list[dict[str, Any]]:
    """One layer for each node; a convolution between Q/DQ pairs computes in int8."""
    model = model_of(engine)
    types = types_of(model)
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    layers = []
    for node in model.graph.node:
        quantised = node.op_type == "Conv" and makers.get(node.input[0]) == "DequantizeLinear"
        inputs = ["INT8" if quantised else types.get(name, "FLOAT") for name in node.input]
        outputs = [types.get(name, "FLOAT") for name in node.output]
        if engine._state["fp32_in_secret"]:
            inputs, outputs = ["FLOAT"] * len(inputs), ["FLOAT"] * len(outputs)
        layers.append({
            "Name": node.name,
            "LayerType": KINDS.get(node.op_type, node.op_type),
            "Inputs": [_said(kind, split_types) for kind in inputs],
            "Outputs": [_said(kind, split_types) for kind in outputs],
        })  # fmt: skip
    return layers


def _said(kind: str, split_types: bool) -> dict[str, str]:
    said = SAID.get(kind, kind.title())
    if split_types:
        return {"Format": "Row major linear format (kLINEAR)", "DataType": said}
    return {"Format/Datatype": said}
