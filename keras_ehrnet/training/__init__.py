"""Training from recipes: `train`, and its parts for those who put them together themselves.

Names are imported when they are first used: reading a recipe needs no Keras.
"""

from typing import TYPE_CHECKING

from keras_ehrnet.support.lazy import public_names

if TYPE_CHECKING:
    from keras_ehrnet.training.devices import join_hosts
    from keras_ehrnet.training.examples import make_examples
    from keras_ehrnet.training.model import compiled_model
    from keras_ehrnet.training.optimizers import L2SGD, L2Adam, make_optimizer, make_schedule
    from keras_ehrnet.training.run import Result, train

__all__ = [
    "L2SGD",
    "L2Adam",
    "Result",
    "compiled_model",
    "join_hosts",
    "make_examples",
    "make_optimizer",
    "make_schedule",
    "train",
]

_PLACES = {
    "L2SGD": "optimizers",
    "L2Adam": "optimizers",
    "Result": "run",
    "compiled_model": "model",
    "join_hosts": "devices",
    "make_examples": "examples",
    "make_optimizer": "optimizers",
    "make_schedule": "optimizers",
    "train": "run",
}

__getattr__, __dir__ = public_names(__name__, {name: (f"{__name__}.{place}", name) for name, place in _PLACES.items()})
