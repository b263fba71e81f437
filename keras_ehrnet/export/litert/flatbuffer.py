"""Two TFLite models in one file: the second takes the outputs of the first, as if they had been converted together.

A network may be quantized as a whole while what follows it computes in float32: the converter cannot do that in one
model, but the file format can hold it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TFLite file."""

_ALIGNMENT = 16  # of constants, as the schema asks for
_RUNTIME_VERSION = b"min_runtime_version"


def join(first: bytes, second: bytes) -> bytes:
    """One TFLite model that passes the outputs of one to another.

    Args:
        first: bytes of a TFLite model with one signature. Outputs that the second does not take are dropped.
        second: bytes of a TFLite model with one signature. The names of its inputs are names of outputs of the first,
            of the same shapes and types.

    Returns:
        Bytes of a TFLite model with the inputs of the first and the outputs of the second, under the name
        `"serving_default"`.

    Raises:
        ValueError: if an input of the second is no output of the first, or of another shape or type.
    """
    network, decoder = read(first), read(second)
    main = network.subgraphs[0]
    renumbering = _Renumbering(network, decoder)
    network.operatorCodes += renumbering.new_codes
    network.buffers += decoder.buffers[1:]
    for number, subgraph in enumerate(decoder.subgraphs):
        renumbering.apply(subgraph, is_main=number == 0)
    tail, *others = decoder.subgraphs
    main.tensors += [tensor for index, tensor in enumerate(tail.tensors) if index not in renumbering.inputs]
    main.operators += tail.operators
    main.outputs = renumbering.main(tail.outputs)
    network.subgraphs += others
    signature = network.signatureDefs[0]
    signature.outputs = decoder.signatureDefs[0].outputs
    for output in signature.outputs:
        (output.tensorIndex,) = renumbering.main([output.tensorIndex])
        main.tensors[output.tensorIndex].name = output.name
    signature.signatureKey = b"serving_default"
    _keep_newer_runtime_version(network, decoder)
    return write(network)


def schema() -> ModuleType:
    """The module that reads and writes the format: every interpreter package ships one."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        from tensorflow.lite.python import schema_py_generated
    return schema_py_generated


def read(content: bytes) -> Any:
    """A TFLite model as an object (`ModelT` of the schema)."""
    return schema().ModelT.InitFromObj(schema().Model.GetRootAsModel(content, 0))


def write(model: Any) -> bytes:
    """The file of a model that `read` returned."""
    import flatbuffers

    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + (1 << 16))
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data):
            buffer.Pack = _AlignedPack(buffer)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _AlignedPack:
    """Writes a buffer where kernels can read it in place. The generated code would put it anywhere."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __call__(self, builder: Any) -> int:
        data = np.ascontiguousarray(self.buffer.data, np.uint8).tobytes()
        builder.StartVector(1, len(data), _ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        vector = builder.EndVector()
        generated = schema()
        generated.BufferStart(builder)
        generated.BufferAddData(builder, vector)
        return generated.BufferEnd(builder)


class _Renumbering:
    """What the decoder's tensors, buffers, operator codes and subgraphs are called in the joined model.

    Args:
        network: `ModelT` that comes first.
        decoder: `ModelT` that comes after it.
    """

    def __init__(self, network: Any, decoder: Any) -> None:
        self.tensors_before = len(network.subgraphs[0].tensors)
        self.buffers_before = len(network.buffers) - 1  # buffer 0 is the empty one, in both
        self.subgraphs_before = len(network.subgraphs) - 1
        self.inputs = _connections(network, decoder)
        known = {_code_key(code): index for index, code in enumerate(network.operatorCodes)}
        self.new_codes = [code for code in decoder.operatorCodes if _code_key(code) not in known]
        known |= {_code_key(code): len(known) + index for index, code in enumerate(self.new_codes)}
        self.codes = [known[_code_key(code)] for code in decoder.operatorCodes]
        kept = [index for index in range(len(decoder.subgraphs[0].tensors)) if index not in self.inputs]
        self.tensors = self.inputs | {index: self.tensors_before + position for position, index in enumerate(kept)}

    def main(self, tensors: Any) -> list[int]:
        """Tensors of the decoder's main subgraph as tensors of the joined one; -1 stands for none."""
        return [-1 if index == -1 else self.tensors[int(index)] for index in tensors]

    def apply(self, subgraph: Any, is_main: bool) -> None:
        """Renumbers what a subgraph of the decoder refers to; only the main one's tensors get new numbers."""
        for tensor in subgraph.tensors:
            tensor.buffer += self.buffers_before if tensor.buffer else 0
            tensor.name = b"decoder/" + (tensor.name or b"")
        for operator in subgraph.operators:
            operator.opcodeIndex = self.codes[operator.opcodeIndex]
            _shift_subgraphs(operator, self.subgraphs_before)
            if is_main:
                operator.inputs, operator.outputs = self.main(operator.inputs), self.main(operator.outputs)
                if operator.intermediates is not None:
                    operator.intermediates = self.main(operator.intermediates)


def _connections(network: Any, decoder: Any) -> dict[int, int]:
    """For every input tensor of the decoder the network's output tensor of the same name."""
    outputs = {output.name: int(output.tensorIndex) for output in network.signatureDefs[0].outputs}
    connections = {}
    for needed in decoder.signatureDefs[0].inputs:
        found = network.subgraphs[0].tensors[outputs[needed.name]] if needed.name in outputs else None
        wanted = decoder.subgraphs[0].tensors[needed.tensorIndex]
        if found is None or _kind(found) != _kind(wanted):
            given = [f"{name.decode()} {_kind(network.subgraphs[0].tensors[index])}" for name, index in outputs.items()]
            raise ValueError(
                f"The second model needs an output {needed.name.decode()!r}, {_kind(wanted)}, of the first. "
                f"Received: {', '.join(given)}"
            )
        connections[int(needed.tensorIndex)] = outputs[needed.name]
    return connections


def _kind(tensor: Any) -> str:
    """Type and shape of a tensor, such as `FLOAT32[1, 8, 8, 17]`."""
    names = {value: name for name, value in vars(schema().TensorType).items()}
    return f"{names[tensor.type]}{[int(side) for side in tensor.shape]}"


def _code_key(code: Any) -> tuple[int, int, bytes | None]:
    return max(code.builtinCode, code.deprecatedBuiltinCode), code.version, code.customCode


def _shift_subgraphs(operator: Any, shift: int) -> None:
    """WHILE, IF and their like refer to subgraphs by number."""
    for options in (operator.builtinOptions, getattr(operator, "builtinOptions2", None)):
        for field, value in vars(options).items() if options is not None else ():
            if field.endswith("SubgraphIndex") and value > 0:
                setattr(options, field, value + shift)


def _keep_newer_runtime_version(network: Any, decoder: Any) -> None:
    entries = [(model, entry) for model in (network, decoder) for entry in model.metadata or ()]
    versions = [(model, model.buffers[entry.buffer]) for model, entry in entries if entry.name == _RUNTIME_VERSION]
    if versions:
        newest = max((bytes(buffer.data) for _, buffer in versions), key=_version)
        for model, buffer in versions:
            if model is network:
                buffer.data = np.frombuffer(newest, np.uint8)


def _version(text: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in text.rstrip(b"\0").split(b".") if part.isdigit())
