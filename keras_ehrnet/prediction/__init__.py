"""From images, folders, videos and cameras to people."""

from keras_ehrnet.prediction.pipeline import Settings
from keras_ehrnet.prediction.predictor import FileResult, PosePredictor
from keras_ehrnet.prediction.video import VideoError, VideoReport, is_camera, is_video

__all__ = ["FileResult", "PosePredictor", "Settings", "VideoError", "VideoReport", "is_camera", "is_video"]
