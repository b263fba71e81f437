"""The sections of a recipe: their keys, defaults and bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from keras_ehrnet.data.kinds import KindName
from keras_ehrnet.families import PartName
from keras_ehrnet.training.values import (
    CHECKED,
    Count,
    Factor,
    Flag,
    NotNegative,
    Number,
    Part,
    Positive,
    Whole,
)

Size = tuple[Count, Count]


@dataclass(frozen=True, config=CHECKED)
class ModelRecipe:
    """What is trained.

    Args:
        name: str. Name of `models.variants.VARIANTS`.
        skeleton: str or None. A pose model's keypoints: name of `skeletons.SKELETONS`, or a YAML or JSON file with
            `name`, `joint_names`, `limbs` and, if need be, `sigmas` and `flip_pairs`; None: those of the data.
        classes: int. Classes of a classifier.
        input_size: tuple (height, width) in pixels, or None for the paper's.
        drop_rate: float or None. Stochastic depth of EfficientNet, alone or as EfficientHRNet's backbone; None for the
            paper's.
        freeze_batch_norm: bool. Whether batch norms keep the statistics they start with, for fine-tuning: a step then
            costs a third less.
        weights: str or None. What to start from: what `keras_ehrnet.weights.load` takes.
        transfer: `"whole"`: the weights must fit; `"fitting"`: take those whose name and shape fit, such as a backbone,
            and heads joint by joint, by the joints' names, as `weights.load(transfer=skeleton)` does.
        train_upscaling: bool. EfficientPose: whether the transposed convolutions that enlarge the heatmaps are trained
            and supervised, at full size. They start as bilinear interpolation, and stay it if not.
    """

    name: str = "h-4"
    skeleton: str | None = None
    classes: Count = 1000
    input_size: Size | None = None
    drop_rate: Part | None = None
    freeze_batch_norm: Flag = False
    weights: str | None = None
    transfer: Literal["whole", "fitting"] = "whole"
    train_upscaling: Flag = True


@dataclass(frozen=True, config=CHECKED)
class SyntheticRecipe:
    """Synthetic people, see `data.synthetic.Scenes`.

    Args:
        length: int. Training images.
        evaluation_length: int. Images to evaluate on, others than those.
        image_size: tuple (width, height) in pixels.
        people: tuple (int, int). Fewest and most persons per image.
        height: tuple (float, float). Height of people as parts of the image's shorter side.
        occluders: int. Most shapes in front of people.
        turning: float. How far people turn and tilt, from 0 to 1.
    """

    length: Count = 2000
    evaluation_length: Count = 64
    image_size: Size = (256, 256)
    people: tuple[Count, Count] = (1, 4)
    height: tuple[Positive, Positive] = (0.45, 0.95)
    occluders: Whole = 2
    turning: Number = 1.0


@dataclass(frozen=True, config=CHECKED)
class DataRecipe:
    """What it is trained and evaluated on.

    Args:
        kind: which reader: COCO's JSON, MPII's, LSP-extended's, or synthetic people; for classifiers a folder with one
            folder of images for each class, or CIFAR-100.
        annotations: str or None. JSON of the training data; not for classifiers.
        images: str or None. Their folder or archive.
        evaluation_annotations: str or None. JSON to evaluate on; None: of COCO's format `validation_share` of the
            training images, else no evaluation.
        evaluation_images: str or None. Their folder or archive; for classifiers None means no evaluation.
        validation_share: float. Part of the images with people that is set aside where nothing to evaluate on is named.
        category: str, int or None. Name or id of COCO's category to learn, where several have keypoints.
        skip_missing: bool. Whether to leave out images whose file is missing, rather than to stop.
        limit: int or None. Only the first so many training images; of classified ones so many of all classes.
        top_down: bool or None. Whether an example is one person, cut out by its box; None for the model's way.
        max_people: int. Persons per image; where there are more, the smallest are masked.
        stand_ins: bool. Whether joints that the data lack are put between others, see `data.map_joints`.
        augmentation: str. Name of `data.AUGMENTATIONS`.
        augmentation_changes: mapping of fields of `data.Augmentation` to other values.
        synthetic: `SyntheticRecipe`.
        mixed_with: mapping of other kinds to `share`, of all images, and keys like these; see `data.mixture`.
    """

    kind: KindName = "coco"
    annotations: str | None = None
    images: str | None = None
    evaluation_annotations: str | None = None
    evaluation_images: str | None = None
    validation_share: Part = 0.1
    category: str | int | None = None
    skip_missing: Flag = False
    limit: Count | None = None
    top_down: Flag | None = None
    max_people: Count = 30
    stand_ins: Flag = False
    augmentation: str = "efficienthrnet"
    augmentation_changes: dict[str, Any] = field(default_factory=dict)
    synthetic: SyntheticRecipe = field(default_factory=SyntheticRecipe)
    mixed_with: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=CHECKED)
class LossRecipe:
    """Losses of the model's family, see `keras_ehrnet.losses`.

    Args:
        sigma: float or None. Width of the gaussians; None for the family's.
        sigma_factors: mapping of epoch to factor of sigma, see `schedules.StepwiseSigma`.
        tag_weight: float. EfficientHRNet: weight of pull and push.
        limb_width: float. EfficientPose: half the width of limbs, in cells.
        ignore_unlabelled: bool or None. Whether joints nobody in an image has labelled are left out; None: where the
            model's family or other joints in the data ask for it.
    """

    sigma: Positive | None = None
    sigma_factors: dict[Whole, Factor] = field(default_factory=dict)
    tag_weight: NotNegative = 1e-3
    limb_width: Positive = 1.0
    ignore_unlabelled: Flag | None = None


@dataclass(frozen=True, config=CHECKED)
class OptimizerRecipe:
    """How weights change.

    Args:
        name: which optimizer.
        weight_decay: float. Factor of the decay of all weights.
        decay: `"l2"`: added to the gradient, as PyTorch's Adam and SGD do; `"decoupled"`: taken off the weights.
        momentum: float. Of SGD.
        clip_norm: float or None. Largest norm of all gradients together; longer ones are shortened.
        ema: float or None. Momentum of the moving average of the weights, which is then what is evaluated and saved.
        rates: mapping of `backbone`, `neck` or `heads` to the factor of the learning rate there, 1 where none is given.
            0: frozen, with the statistics of batch norms; it then costs no backward pass either.
    """

    name: Literal["adam", "sgd"] = "adam"
    weight_decay: NotNegative = 0.0
    decay: Literal["l2", "decoupled"] = "l2"
    momentum: Part = 0.9
    clip_norm: Positive | None = None
    ema: Part | None = None
    rates: dict[PartName, NotNegative] = field(default_factory=dict)


@dataclass(frozen=True, config=CHECKED)
class ScheduleRecipe:
    """Learning rate, see `keras_ehrnet.training.schedules`.

    Args:
        kind: `"step"` or `"triangular"`.
        rate: float. The highest learning rate.
        boundaries: epochs at which it falls (step).
        factor: float. By what (step).
        warmup_epochs: float. Length of the warm-up (step).
        warmup_rate: float. Where the warm-up starts (step).
        final_rate: float or None. Peak of the last cycle (triangular).
        cycle_epochs: float. Length of a cycle (triangular).
        divisor: float. How far below its peak a cycle starts and ends (triangular).
    """

    kind: Literal["step", "triangular"] = "step"
    rate: Positive = 1e-3
    boundaries: tuple[Number, ...] = ()
    factor: Positive = 0.1
    warmup_epochs: NotNegative = 0.0
    warmup_rate: Positive = 1e-4
    final_rate: Positive | None = None
    cycle_epochs: Positive = 3.0
    divisor: Positive = 3000.0


@dataclass(frozen=True, config=CHECKED)
class TrainingRecipe:
    """How long, how much at a time, on what.

    Args:
        epochs: int.
        batch_size: int. Examples per step, of all devices and hosts together.
        steps_per_epoch: int or None. None: as many as show every example.
        seed: int. Of weights, order, augmentation and dropout.
        precision: what is computed in; weights are float32 in any case.
        patience: int or None. Stop after so many evaluations in a row without a better score; None: never.
        minutes: float or None. Stop after the first epoch at whose end so many minutes of this start are over; the
            same command goes on later.
        devices: int. How many of every host's devices to use: GPUs where there are any, else CPUs.
        jit: bool or None. Whether to compile with XLA; None: as Keras decides.
        workers: int or None. Threads (TensorFlow) or processes (JAX; 0: none) that make batches; None: one per core.
    """

    epochs: Count = 300
    batch_size: Count = 16
    steps_per_epoch: Count | None = None
    seed: Whole = 0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    patience: Count | None = None
    minutes: Positive | None = None
    devices: Count = 1
    jit: Flag | None = None
    workers: Whole | None = None


@dataclass(frozen=True, config=CHECKED)
class EvaluationRecipe:
    """How often and how to evaluate.

    Args:
        every: int. Epochs between evaluations; the last epoch is always evaluated. 0: never.
        limit: int or None. Only the first so many images.
        flip: bool. Whether to average with mirrored images.
        pictures: int. Images in `predictions.png` and `targets.png`; 0: none.
    """

    every: Whole = 10
    limit: Count | None = None
    flip: Flag = False
    pictures: Whole = 8


@dataclass(frozen=True, config=CHECKED)
class OutputRecipe:
    """What is written.

    Args:
        folder: str or None. Where to; None: `runs/` and the name of the recipe.
        keep: int. Checkpoints to keep, the newest.
        steps: bool. Whether to write the running mean of the loss after every step to `steps.csv`.
        tensorboard: bool. Whether to write logs for TensorBoard: `pip install 'keras-ehrnet[tensorboard]'`.
    """

    folder: str | None = None
    keep: Count = 1
    steps: Flag = False
    tensorboard: Flag = False
