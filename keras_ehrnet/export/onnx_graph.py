"""An ONNX graph that grows: tensors on their way through it, operators, constants and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Pads = tuple[int, int, int, int]
"""Top, left, bottom, right: the order of ONNX."""

Side = int | str
"""Of a tensor: a number or, of images of any size, the name of one that the graph computes, of shape `(1,)`."""


@dataclass(frozen=True)
class Value:
    """A tensor on its way through the graph.

    Args:
        name: str. Its name in ONNX, where it is channels first.
        shape: tuple. Its shape in Keras, channels last, with `pads`; height and width are None where they are free.
        pads: `Pads`. Zeros around it that are still to be added: the next convolution can do that by itself.
    """

    name: str
    shape: tuple[int | None, ...]
    pads: Pads = (0, 0, 0, 0)


@dataclass
class Graph:
    """An ONNX graph that grows.

    Args:
        scope: str. What the names of new nodes and constants begin with.
        taken: set of str. Names that are given already.
    """

    scope: str = ""
    taken: set[str] = field(default_factory=set)
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Appends an operator; returns the name of its output, which is that of the node."""
        name = self.name(operator.lower())
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def add_several(self, operator: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Appends an operator with several outputs; returns their names."""
        outputs = [self.name(operator.lower()) for _ in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def inside(self) -> Graph:
        """An empty graph for the inside of a loop, which sees what is outside; constants lie there, too."""
        return Graph(self.scope, self.taken, constants=self.constants)

    def constant(self, array: np.ndarray, name: str) -> str:
        """Stores an array; returns its name."""
        name = self.name(name)
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def integers(self, values: Side | Sequence[Side]) -> str:
        """The name of a side, or of several in a row: a constant where all are known."""
        if isinstance(values, str):
            return values
        if isinstance(values, int) or not any(isinstance(side, str) for side in values):
            return self.constant(np.array(values, np.int64), "integers")
        return self.add("Concat", [side if isinstance(side, str) else self.integers([side]) for side in values], axis=0)

    def side(self, name: str, axis: int) -> str:
        """Appends what asks a tensor for a side, of shape `(1,)`; returns its name."""
        return self.add("Slice", [self.add("Shape", [name]), self.integers([axis]), self.integers([axis + 1])])

    def padded(self, value: Value) -> str:
        """The name of a value with its zeros around it."""
        if not any(value.pads):
            return value.name
        top, left, bottom, right = value.pads
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        return self.add("Pad", [value.name, self.constant(pads, "pads")])

    def name(self, name: str) -> str:
        """A name that nothing has yet, which is taken then."""
        name = f"{self.scope}/{name}"
        ends = chain([""], (f"_{number}" for number in count(1)))
        name = next(name + end for end in ends if name + end not in self.taken)
        self.taken.add(name)
        return name
