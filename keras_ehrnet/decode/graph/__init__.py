"""Decoders as TensorFlow graphs, for files that give people instead of maps: twins of those in NumPy."""

from keras_ehrnet.decode.graph.decoders import associative, pafs, peaks, single_person
from keras_ehrnet.decode.graph.functions import decoder_function, decoder_tflite, maps_needed

__all__ = ["associative", "decoder_function", "decoder_tflite", "maps_needed", "pafs", "peaks", "single_person"]
