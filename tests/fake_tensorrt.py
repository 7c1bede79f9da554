"""TensorRT of one release on a fake GPU: what it builds is run by ONNX Runtime.

It keeps the rules that an adapter can break: flags that weak typing needs and strong typing
refuses, profiles for dynamic inputs, engines that load on their own release and GPU alone, shapes
and addresses before a run, a first run before a graph is recorded, and an inspector that says
nothing without detailed verbosity and writes types as that release does.
"""

import pickle
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
from fake_engine import SCRIPTS, dims, script, shape_of, types_of
from fake_gpu import Gpu
from strict_api import StrictEnum, new, read_api, strict_module


class FakeTensorRT:
    """The scripts of one release; `fp32_in_secret` breaks the promise of a low precision."""

    def __init__(self, version: str, gpu: Gpu):
        self.version = version
        self.gpu = gpu
        self.strong_only = int(version.split(".")[0]) >= 11
        self.fp32_in_secret = False
        self.silent_inspector = False
        self.builds: list[dict[str, Any]] = []
        scripts = {where: partial(play, self) for where, play in SCRIPTS.items()}
        self.module: ModuleType = strict_module(
            "tensorrt",
            read_api("tensorrt", version),
            {**scripts, "init_libnvinfer_plugins": lambda _logger, _namespace: True},
        )
        vars(self.module)["__version__"] = version  # of the package, not of its binding
        severity = StrictEnum(
            "Severity", {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
        )
        self.module.ILogger.Severity = severity
        for member in severity:
            setattr(self.module.ILogger, member.name, member)
        self.module.IHostMemory.__bytes__ = lambda memory: memory._state["content"]

    def new(self, title: str, **state: Any) -> Any:
        return new(getattr(self.module, title), **state)

    def complain(self, owner: Any, message: str) -> None:
        owner._state["logger"].log(self.module.ILogger.ERROR, message)


@script("Builder.__init__")
def builder_init(fake: Any, builder: Any, logger: Any) -> None:
    fake.gpu.need_context()
    builder._state["logger"] = logger


@script("Builder.create_network")
def builder_create_network(fake: Any, builder: Any, flags: int = 0) -> Any:
    known = [int(flag) for flag in fake.module.NetworkDefinitionCreationFlag]
    if flags & ~sum(1 << bit for bit in set(known)):
        raise TypeError(f"no network flags {flags:b}")
    bit = int(fake.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    strong = fake.strong_only or bool(flags & 1 << bit)
    return fake.new("INetworkDefinition", strong=strong, logger=builder._state["logger"])


@script("Builder.create_builder_config")
def builder_create_builder_config(fake: Any, builder: Any) -> Any:
    flags = {fake.module.BuilderFlag.TF32}
    return fake.new("IBuilderConfig", set_flags=flags, profiles=[], limits={},
                     logger=builder._state["logger"])  # fmt: skip


@script("Builder.create_optimization_profile")
def builder_create_optimization_profile(fake: Any, _builder: Any) -> Any:
    return fake.new("IOptimizationProfile", shapes={})


@script("Builder.num_DLA_cores")
def builder_num_dla_cores(fake: Any, _builder: Any) -> int:
    return fake.gpu.dla_cores


@script("Builder.build_serialized_network")
def builder_build_network(fake: Any, builder: Any, network: Any, config: Any) -> Any:
    refusal = refusal_of(network, config)
    if refusal:
        fake.complain(builder, refusal)
        return None
    facts = {
        "onnx": network._state["model"].SerializeToString(),
        "version": fake.version,
        "capability": fake.gpu.capability,
        "shapes": config._state["profiles"][0] if config._state["profiles"] else {},
        "detailed": getattr(config._state.get("profiling_verbosity"), "name", "") == "DETAILED",
        "fp32_in_secret": fake.fp32_in_secret,
    }
    fake.builds.append({
        "strong": network._state["strong"],
        "flags": {flag.name for flag in config._state["set_flags"]},
        "level": config._state.get("builder_optimization_level"),
        "limits": config._state["limits"],
        "dla_core": config._state.get("DLA_core"),
        "timing": config._state["timing"]._state["content"],
        "shapes": facts["shapes"],
    })  # fmt: skip
    config._state["timing"]._state["content"] += b"timed;"
    return host(fake, pickle.dumps(facts))


def refusal_of(network: Any, config: Any) -> str | None:
    flags = {flag.name for flag in config._state["set_flags"]}
    types = types_of(network._state["model"])
    if network._state["strong"]:
        if flags & {"FP16", "INT8", "BF16"}:
            return "Error Code 3: API Usage Error (precision flag in a strongly typed network)"
    else:
        for dtype, flag in (("HALF", "FP16"), ("INT8", "INT8"), ("BF16", "BF16")):
            if dtype in types.values() and flag not in flags:
                return f"Error Code 4: Internal Error ({dtype} tensor, but {flag} is not set)"
    shapes = config._state["profiles"][0] if config._state["profiles"] else {}
    for port in network._state["model"].graph.input:
        if -1 in shape_of(port) and port.name not in shapes:
            return f"Error Code 4: {port.name}: dynamic input is missing dimensions in profile"
    device = config._state.get("default_device_type")
    if getattr(device, "name", "GPU") == "DLA" and "GPU_FALLBACK" not in flags:
        odd = {node.op_type for node in network._state["model"].graph.node} - {"Conv", "Relu"}
        if odd:
            return f"Error Code 4: {odd.pop()} cannot run on DLA, and GPU_FALLBACK is not set"
    return None


def host(fake: Any, content: bytes) -> Any:
    return fake.new("IHostMemory", content=content, nbytes=len(content))


@script("OnnxParser.__init__")
def parser_init(_fake: Any, parser: Any, network: Any, logger: Any) -> None:
    parser._state.update(network=network, logger=logger, errors=[])


@script("OnnxParser.parse_from_file")
def parser_parse_from_file(_fake: Any, parser: Any, path: str) -> bool:
    model = onnx.load(Path(path))
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in known:
            parser._state["errors"].append((node, "No importer registered for op"))
        elif types.get((*node.input, "", "", "")[2]) == onnx.TensorProto.UINT8:
            parser._state["errors"].append((node, "Non-zero zero point is not supported"))
    parser._state["network"]._state["model"] = model
    return not parser._state["errors"]


@script("OnnxParser.num_errors")
def parser_num_errors(_fake: Any, parser: Any) -> int:
    return len(parser._state["errors"])


@script("OnnxParser.get_error")
def parser_get_error(fake: Any, parser: Any, index: int) -> Any:
    return fake.new("ParserError", said=parser._state["errors"][index])


@script("ParserError.desc")
def error_desc(_fake: Any, error: Any) -> str:
    return error._state["said"][1]


@script("ParserError.node_name")
def error_node_name(_fake: Any, error: Any) -> str:
    return error._state["said"][0].name


@script("ParserError.node_operator")
def error_node_operator(_fake: Any, error: Any) -> str:
    return error._state["said"][0].op_type


@script("INetworkDefinition.num_inputs")
def network_num_inputs(_fake: Any, network: Any) -> int:
    return len(network._state["model"].graph.input)


@script("INetworkDefinition.get_input")
def network_get_input(fake: Any, network: Any, index: int) -> Any:
    port = network._state["model"].graph.input[index]
    shape = dims(fake, shape_of(port))
    return fake.new("ITensor", name=port.name, shape=shape, is_shape_tensor=False)


@script("Dims.__len__")
def dims_len(_fake: Any, dims: Any) -> int:
    return len(dims._state["sizes"])


@script("Dims.__getitem__")
def dims_getitem(_fake: Any, dims: Any, index: int) -> int:
    return dims._state["sizes"][index]


@script("IOptimizationProfile.set_shape")
def profile_set_shape(
    _fake: Any, profile: Any, name: str, least: Any, best: Any, most: Any
) -> None:
    if not all(a <= b <= c for a, b, c in zip(least, best, most, strict=True)):
        raise ValueError("Shape provided for min, opt and max must be in that order")
    profile._state["shapes"][name] = (tuple(least), tuple(best), tuple(most))


@script("IBuilderConfig.set_flag")
def config_set_flag(_fake: Any, config: Any, flag: Any) -> None:
    config._state["set_flags"].add(flag)


@script("IBuilderConfig.clear_flag")
def config_clear_flag(_fake: Any, config: Any, flag: Any) -> None:
    config._state["set_flags"].discard(flag)


@script("IBuilderConfig.set_memory_pool_limit")
def config_set_memory_pool_limit(_fake: Any, config: Any, pool: Any, size: int) -> None:
    config._state["limits"][pool.name] = size


@script("IBuilderConfig.add_optimization_profile")
def config_add_optimization_profile(_fake: Any, config: Any, profile: Any) -> int:
    config._state["profiles"].append(profile._state["shapes"])
    return len(config._state["profiles"]) - 1


@script("IBuilderConfig.create_timing_cache")
def config_create_timing_cache(fake: Any, _config: Any, content: bytes) -> Any:
    return fake.new("ITimingCache", content=bytes(content))


@script("IBuilderConfig.set_timing_cache")
def config_set_timing_cache(_fake: Any, config: Any, kept: Any, _ignore: bool) -> bool:
    config._state["timing"] = kept
    return True


@script("IBuilderConfig.get_timing_cache")
def config_get_timing_cache(_fake: Any, config: Any) -> Any:
    return config._state["timing"]


@script("ITimingCache.serialize")
def timing_serialize(fake: Any, kept: Any) -> Any:
    return host(fake, kept._state["content"])
