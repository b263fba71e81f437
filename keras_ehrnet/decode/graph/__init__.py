"""Decoders as TensorFlow graphs, for files that give people instead of maps: twins of those in NumPy."""

from keras_ehrnet.decode.graph.decoders import associative, decoder_tflite, maps_needed, pafs, peaks, single_person

__all__ = ["associative", "decoder_tflite", "maps_needed", "pafs", "peaks", "single_person"]
