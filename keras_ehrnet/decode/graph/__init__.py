"""Decoders as TensorFlow graphs, for files that give people instead of maps: twins of those in NumPy."""

from keras_ehrnet.decode.graph.decoders import FAMILIES, associative, decoder_tflite, peaks, single_person

__all__ = ["FAMILIES", "associative", "decoder_tflite", "peaks", "single_person"]
