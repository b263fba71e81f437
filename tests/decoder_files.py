"""Decoders alone as files, run by their runtimes: maps (H, W, K) by name in, people or peaks of one image out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from keras_ehrnet.decode import graph
from keras_ehrnet.skeletons import COCO_17


class TfliteDecoder:
    """A decoder's TensorFlow Lite file, run by the interpreter."""

    def __init__(self, family, decode, maps, skeleton=COCO_17, **options):
        interpreter = pytest.importorskip("ai_edge_litert.interpreter")
        shapes = {name: (1, *values.shape) for name, values in maps.items()}
        self.file = graph.decoder_tflite(family, decode, shapes, skeleton=skeleton, **options)
        runner = interpreter.Interpreter(model_content=self.file, num_threads=1)
        self.runner, self.output = runner.get_signature_runner("serving_default"), decode

    def __call__(self, maps):
        result = self.runner(**{name: np.asarray(values, np.float32)[None] for name, values in maps.items()})
        assert list(result) == [self.output]
        assert np.isfinite(result[self.output]).all()
        return result[self.output][0]


class OnnxDecoder:
    """A decoder's ONNX file, checked, and run by ONNX Runtime. Inside such files maps are channels first."""

    def __init__(
        self,
        family,
        decode,
        maps,
        skeleton=COCO_17,
        *,
        batch=1,
        any_size=False,
        opset=17,
        multi_person=False,
        **settings,
    ):
        onnx = pytest.importorskip("onnx")
        onnxruntime = pytest.importorskip("onnxruntime")
        from keras_ehrnet.export.onnx_decoders import Decoder, PeopleDecoder
        from keras_ehrnet.export.onnx_graph import Graph, Value

        several = decode == "poses" and (multi_person or "tags_4" in maps)
        decoder: Any = (
            PeopleDecoder(family, skeleton, batch, opset, settings | {"multi_person": multi_person})
            if several
            else Decoder(family, decode, **settings)
        )
        nodes = Graph(taken=set(maps))
        sides = {name: (None, None) if any_size else array.shape[:2] for name, array in maps.items()}
        values = {name: Value(name, (batch, *sides[name], array.shape[2])) for name, array in maps.items()}
        result, shape = decoder(nodes, values)
        make, number = onnx.helper.make_tensor_value_info, "batch" if batch is None else batch
        float32 = onnx.TensorProto.FLOAT
        inputs = [make(name, float32, [number, array.shape[2], *sides[name]]) for name, array in maps.items()]
        self.model = onnx.helper.make_model(
            onnx.helper.make_graph(
                nodes.nodes, "decoder", inputs, [make(result, float32, [number, *shape])], nodes.constants
            ),
            opset_imports=[onnx.helper.make_opsetid("", opset)],
            ir_version=8,
        )
        onnx.checker.check_model(self.model, full_check=True)
        assert {node.domain for node in nodes.nodes} == {""}
        self.session = onnxruntime.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])

    def batch(self, images):
        """What comes out for several images at once, of each of which these are the maps."""
        names = images[0]
        given = {
            name: np.stack([np.asarray(maps[name], np.float32).transpose(2, 0, 1) for maps in images]) for name in names
        }
        (results,) = self.session.run(None, given)
        assert np.isfinite(results).all()
        return results

    def __call__(self, maps):
        return self.batch([maps])[0]


KINDS = {"tflite": TfliteDecoder, "onnx": OnnxDecoder, "onnx of any size": partial(OnnxDecoder, any_size=True)}
"""Kind of a file -> what makes and runs a decoder in such a file."""
