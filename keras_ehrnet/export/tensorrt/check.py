"""What TF-TRT will make of a network, foretold without TensorRT: which engines, and what stays outside and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.export.saved_model_folder import check_backend, is_saved_model, serving_function
from keras_ehrnet.export.tensorrt.ops import CONVERTIBLE
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras
    from rich.table import Table

MINIMUM_SEGMENT_SIZE = 3
"""Smaller parts of a graph stay with TensorFlow: TF-TRT's own default."""

_INPUTS = ("Placeholder", "NoOp")
_NO_WORK = ("Identity", "Snapshot", "StopGradient")
_TYPES = ("float32", "float16", "int32", "bool")

CONSTANT_INPUTS: dict[str, tuple[int, ...]] = {
    "BiasAdd": (1,),
    "ConcatV2": (-1,),
    "Conv2D": (1,),
    "Conv2DBackpropInput": (0, 1),
    "DepthwiseConv2dNative": (1,),
    "ExpandDims": (1,),
    "Mean": (1,),
    "Pad": (1,),
    "ResizeBilinear": (1,),
    "ResizeNearestNeighbor": (1,),
    "Tile": (1,),
    "Transpose": (1,),
}
"""Operation -> inputs that must be constants where the batch is fixed."""


@dataclass(frozen=True)
class Outside:
    """An operation that stays with TensorFlow.

    Args:
        name: str. Name of the node.
        operation: str. What it computes.
        reason: str. Why TensorRT does not get it.
    """

    name: str
    operation: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What TF-TRT will make of a network.

    Args:
        name: str. The network.
        segments: tuple of dict. For every engine: operation -> how often, constants left out; the largest first.
        outside: tuple of `Outside`.
    """

    name: str
    segments: tuple[Mapping[str, int], ...]
    outside: tuple[Outside, ...]

    @property
    def one_engine(self) -> bool:
        """Whether the whole network becomes one engine; the conversion of bytes to numbers before it does not count."""
        return len(self.segments) == 1 and all(_takes_bytes(entry) for entry in self.outside)

    def __str__(self) -> str:
        engines = [f"{sum(segment.values())} operations" for segment in self.segments]
        listed = f"{len(engines)} engine{'' if len(engines) == 1 else 's'}" + (
            f" ({', '.join(engines)})" * bool(engines)
        )
        kept = ", ".join(f"{entry.operation} ({entry.reason})" for entry in self.outside[:5]) or "nothing"
        return f"{self.name}: {listed}; outside: {kept}" + ", ..." * (len(self.outside) > 5)

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(title=f"TF-TRT: {self.name}", caption=str(self))
        for column in ("where", "operations"):
            table.add_column(column)
        for number, segment in enumerate(self.segments, start=1):
            listed = ", ".join(f"{count} {operation}" for operation, count in Counter(segment).most_common())
            table.add_row(f"engine {number}", listed)
        for (operation, reason), count in Counter((entry.operation, entry.reason) for entry in self.outside).items():
            table.add_row("outside", f"{count} {operation}: {reason}")
        return table


def check(
    source: str | Path | keras.Model,
    *,
    weights: WeightsSource | None = None,
    input_size: tuple[int, int] | None = None,
    batch: int | None = 1,
    minimum_segment_size: int = MINIMUM_SEGMENT_SIZE,
) -> Report:
    """Foretells which parts of a network TF-TRT gives to TensorRT; needs neither TensorRT nor a GPU.

    The graph is frozen and simplified as TF-TRT does it. An operation is taken if it is on TensorFlow 2.17.1's list,
    computes with types that TensorRT has, and gets constants where it needs them. Neighbours are joined, from the
    outputs upward, as long as no way leads out of a segment and back into it.

    Args:
        source: folder of a SavedModel, `keras.Model`, the path of a `.keras` file, or a name such as `"h-2"`.
        weights: what `keras_ehrnet.weights.load` takes. A SavedModel has its own.
        input_size: tuple (height, width) in pixels, or None for the model's own, or its paper's.
        batch: int, or None for any number of images. Not for a SavedModel.
        minimum_segment_size: int. Smaller segments stay with TensorFlow.

    Returns:
        `Report`; rich prints it as a table.

    Raises:
        ValueError: for a model that cannot be exported, or where Keras does not run on TensorFlow.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.tensorrt.convert import check
        >>> check(ke.EfficientPoseNAS("A", input_shape=(64, 64, 3))).one_engine
        True
    """
    title, frozen = _frozen(source, weights, input_size, batch)
    nodes = {node.name: node for node in _simplified(frozen).node}
    reasons = {name: _reason(node, nodes) for name, node in nodes.items()}
    taken = {name for name, reason in reasons.items() if reason is None}
    successors: dict[str, set[str]] = {name: set() for name in nodes}
    for node in nodes.values():
        for before in _sources(node):
            successors[before].add(node.name)
    kept, dropped = [], []
    for segment in find_segments(successors, taken):
        size = sum(nodes[name].op not in _NO_WORK for name in segment)
        (kept if size >= minimum_segment_size else dropped).append(segment)
    for segment in dropped:
        reasons.update(dict.fromkeys(segment, f"fewer than {minimum_segment_size} operations together"))
    outside = [Outside(name, nodes[name].op, reason) for name, reason in reasons.items() if reason is not None]
    outside = [entry for entry in outside if entry.operation not in (*_INPUTS, *_NO_WORK, "Const")]
    counts = [Counter(nodes[name].op for name in segment if nodes[name].op != "Const") for segment in kept]
    return Report(title, tuple(sorted(counts, key=lambda count: -sum(count.values()))), tuple(outside))


def _frozen(
    source: Any, weights: WeightsSource | None, input_size: tuple[int, int] | None, batch: int | None
) -> tuple[str, Any]:
    """The name of what is to be converted, and its function with weights as constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from keras_ehrnet.export import common
    from keras_ehrnet.export.rewrite import plain_model

    if isinstance(source, (str, Path)) and is_saved_model(Path(source)):
        # Until the function is frozen, only the loaded object keeps its variables alive.
        loaded = tf.saved_model.load(str(source))
        return Path(source).name, convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    check_backend()
    common.check_batch(batch)
    network = common.load(source, weights, None, input_size)
    serve, image = serving_function(plain_model(network.model, network.input_size), batch)
    return network.name, convert_variables_to_constants_v2(tf.function(serve).get_concrete_function(image))


def simplification() -> Any:
    """Grappler's passes before TF-TRT's own, as a `RewriterConfig`."""
    from tensorflow.core.protobuf import rewriter_config_pb2

    return rewriter_config_pb2.RewriterConfig(
        optimizers=["pruning", "debug_stripper", "layout", "dependency", "constfold", "common_subgraph_elimination"],
        meta_optimizer_iterations=rewriter_config_pb2.RewriterConfig.ONE,
    )


def _simplified(frozen: Any) -> Any:
    """The graph that TF-TRT's segmentation sees."""
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training import saver

    meta_graph = saver.export_meta_graph(graph_def=frozen.graph.as_graph_def(), graph=frozen.graph)
    ends = meta_graph_pb2.CollectionDef()
    ends.node_list.value.extend(tensor.name for tensor in frozen.inputs + frozen.outputs)
    meta_graph.collection_def["train_op"].CopyFrom(ends)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.CopyFrom(simplification())
    return tf_optimizer.OptimizeGraph(config, meta_graph, graph_id=b"tf_graph")


def _sources(node: Any) -> list[str]:
    """Names of the nodes whose results a node takes."""
    return [source.split(":")[0] for source in node.input if not source.startswith("^")]


def _reason(node: Any, nodes: Mapping[str, Any]) -> str | None:
    """Why TensorRT does not get an operation; None if it does."""
    from tensorflow.dtypes import as_dtype

    if node.op not in CONVERTIBLE:
        return "no operation of TF-TRT"
    if node.op == "Shape":
        return "shapes are not fixed"
    types = {as_dtype(attribute.type).name for attribute in node.attr.values() if attribute.HasField("type")}
    if types - set(_TYPES):
        return f"{', '.join(sorted(types - set(_TYPES)))} is no type of TF-TRT"
    sources = _sources(node)
    for index in CONSTANT_INPUTS.get(node.op, ()):
        if nodes[sources[index]].op != "Const":
            return f"input {index % len(sources)} is not constant"
    return None


def _takes_bytes(entry: Outside) -> bool:
    return entry.operation == "Cast" and entry.reason.startswith("uint8")


def find_segments(successors: Mapping[str, Iterable[str]], taken: set[str]) -> list[set[str]]:
    """Groups of neighbours that may each become one node without closing a cycle.

    Args:
        successors: mapping from the name of every node to the nodes that take its results; without cycles.
        taken: set of the nodes that may be in a group.

    Returns:
        List of sets of names; together they are `taken`.

    Example:
        >>> from keras_ehrnet.export.tensorrt.check import find_segments
        >>> chain = {"a": ["b", "x"], "b": ["c"], "x": ["c"], "c": []}  # joined a, b and c would lead to x and back
        >>> sorted(map(sorted, find_segments(chain, {"a", "b", "c"})))
        [['a'], ['b', 'c']]
    """
    following = {name: set(after) for name, after in successors.items()}
    preceding: dict[str, set[str]] = {name: set() for name in following}
    for name, after in following.items():
        for other in after:
            preceding[other].add(name)
    groups = {name: {name} for name in taken}
    for name in _outputs_first(following):
        while name in groups:
            other = next((after for after in following[name] if _may_join(name, after, groups, following)), None)
            if other is None:
                break
            groups[name] |= groups.pop(other)
            _contract(name, other, following, preceding)
    return list(groups.values())


def _outputs_first(following: Mapping[str, set[str]]) -> Sequence[str]:
    """Names in an order where every node comes after those that take its results."""
    order: dict[str, None] = {}
    for start in following:
        stack = [start]
        while stack:
            waiting = [after for after in following[stack[-1]] if after not in order]
            if waiting:
                stack.extend(waiting)
            else:
                order.setdefault(stack.pop())
    return list(order)


def _may_join(name: str, other: str, groups: Mapping[str, set[str]], following: Mapping[str, set[str]]) -> bool:
    """Whether the edge between two groups is the only way from the one to the other."""
    if other not in groups:
        return False
    seen = {other}
    stack = [after for after in following[name] if after != other]
    while stack:
        current = stack.pop()
        if other in following[current]:
            return False
        fresh = following[current] - seen
        seen |= fresh
        stack.extend(fresh)
    return True


def _contract(name: str, other: str, following: dict[str, set[str]], preceding: dict[str, set[str]]) -> None:
    """Makes one node of two: the first takes over the neighbours of the other."""
    for after in following.pop(other):
        preceding[after].discard(other)
        preceding[after].add(name)
        following[name].add(after)
    for before in preceding.pop(other):
        following[before].discard(other)
        if before != name:
            following[before].add(name)
            preceding[name].add(before)
