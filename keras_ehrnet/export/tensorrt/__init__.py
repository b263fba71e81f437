"""TensorRT inside TensorFlow (TF-TRT): conversion, and what of a network it takes."""
