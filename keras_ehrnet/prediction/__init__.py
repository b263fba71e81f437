"""From images, folders, videos, cameras and streams to people."""

from keras_ehrnet.prediction.pipeline import Settings
from keras_ehrnet.prediction.predictor import FileResult, PosePredictor, load_networks
from keras_ehrnet.prediction.sources import Frame, frames, is_address, is_camera, is_pipeline, is_video, list_videos
from keras_ehrnet.prediction.video import VideoError, VideoReport

__all__ = [
    "FileResult",
    "Frame",
    "PosePredictor",
    "Settings",
    "VideoError",
    "VideoReport",
    "frames",
    "is_address",
    "is_camera",
    "is_pipeline",
    "is_video",
    "list_videos",
    "load_networks",
]
