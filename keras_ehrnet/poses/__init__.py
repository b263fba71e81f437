"""People in an image: what every decoder returns, pictures of it, and what other libraries make of it."""

from keras_ehrnet.poses.people import Poses

__all__ = ["Poses"]
