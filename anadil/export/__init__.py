"""From PyTorch to one ONNX file that is verified, and the exported folder around it.

`anadil.export` is a function as well (anadil/__init__.py). Python binds a package's name over it as soon as the package
is imported, so the package can be called, with the same meaning.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    # still the function: the package's name is bound after this file has run
    __call__: Any = staticmethod(vars(sys.modules["anadil"])["export"])


sys.modules[__name__].__class__ = _CallablePackage
