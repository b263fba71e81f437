"""LiteRT (TensorFlow Lite): calibration, quantization, decoders inside the file."""
