"""Exported models compared on this machine: speed, memory, size, and what each costs in accuracy.

Names are imported when they are first used: the process that measures a file loads nothing else.
"""

from typing import TYPE_CHECKING

from keras_ehrnet.support.lazy import public_names

if TYPE_CHECKING:
    from keras_ehrnet.benchmark.measure import Measurement, measure_apart
    from keras_ehrnet.benchmark.runs import (
        MEASURED_FORMATS,
        ROUNDS,
        Case,
        Data,
        Exported,
        Result,
        cases,
        device,
        export_all,
        measure_all,
        of_files,
        plot,
        synthetic_people,
        write_csv,
    )

__all__ = [
    "MEASURED_FORMATS",
    "ROUNDS",
    "Case",
    "Data",
    "Exported",
    "Measurement",
    "Result",
    "cases",
    "device",
    "export_all",
    "measure_all",
    "measure_apart",
    "of_files",
    "plot",
    "synthetic_people",
    "write_csv",
]

_MEASURE = ("Measurement", "measure_apart")

__getattr__, __dir__ = public_names(
    __name__, {name: (f"{__name__}.{'measure' if name in _MEASURE else 'runs'}", name) for name in __all__}
)
