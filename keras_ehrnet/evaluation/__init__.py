"""How good poses are: COCO's average precision, MPII's PCKh, PCK for Leeds Sports Pose, accuracy for the watt."""

from keras_ehrnet.evaluation.oks import CocoScores, oks_average_precision
from keras_ehrnet.evaluation.pck import PckScores, efficiency, pck, pckh, torso_lengths
from keras_ehrnet.evaluation.runs import coco, coco_pck, lspet, mpii

__all__ = [
    "CocoScores",
    "PckScores",
    "coco",
    "coco_pck",
    "efficiency",
    "lspet",
    "mpii",
    "oks_average_precision",
    "pck",
    "pckh",
    "torso_lengths",
]
