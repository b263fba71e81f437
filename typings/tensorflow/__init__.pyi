"""What TensorFlow is to the type checker: anything. Stubs that others wrote for it know neither sizes nor operators."""

from typing import Any

def __getattr__(name: str) -> Any: ...
