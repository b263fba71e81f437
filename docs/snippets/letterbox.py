import cv2
import numpy as np


def letterbox(image, input_width, input_height):
    """The network's input, and the function that leads from its pixels back to those of the image."""
    height, width = image.shape[:2]
    factor = min(input_width / width, input_height / height)
    left, top = (input_width - factor * width) / 2, (input_height - factor * height) / 2
    # OpenCV counts pixels from their centers, hence the half pixels.
    half = (factor - 1) / 2
    matrix = np.array([[factor, 0, left + half], [0, factor, top + half]])
    fitted = cv2.warpAffine(image, matrix, (input_width, input_height), flags=cv2.INTER_LINEAR)
    return fitted, lambda x, y: ((x - left) / factor, (y - top) / factor)
