"""Compiled loops over numbers as they are stored: bfloat16, which numba does not know, is seen as u16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])
Array = NDArray[Any]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
WORD = ir.IntType(32)
OPTIONS: Any = {"cache": True, "nogil": True, "error_model": "numpy"}  # errors would be branches in every loop
# Sums in any fixed order, divisions by a reciprocal; infinities and NaN stay what they are.
LOOSE = {"reassoc", "contract", "arcp"}


def kernel(function: F) -> F:
    """Compile a loop that lets other threads run."""
    return cast(F, njit(**OPTIONS)(function))


def loose_kernel(function: F) -> F:
    """The same of floats whose sums may be taken in whatever order is fastest; it is the same each time."""
    return cast(F, njit(**OPTIONS, fastmath=LOOSE)(function))


def bits_of(tensor: Tensor) -> Array:
    """A tensor's memory as numpy sees it: bfloat16 as u16."""
    plain = tensor.detach()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


@intrinsic  # type: ignore[untyped-decorator]
def _widen(context: Any, value: Any) -> Any:
    """A stored number as float32: of bfloat16's 16 bits, or what it is."""

    def of_half(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.zext(arguments[0], WORD)
        return builder.bitcast(builder.shl(word, WORD(16)), ir.FloatType())

    def of_float(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0]

    known = {types.uint16: of_half, types.float32: of_float}
    return types.float32(value), known[value]


@intrinsic  # type: ignore[untyped-decorator]
def _narrow(context: Any, value: Any, like: Any) -> Any:
    """A float32 as it is stored beside `like`: rounded to bfloat16, to the nearest, or as it is."""

    def to_half(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.bitcast(arguments[0], WORD)
        odd = builder.and_(builder.lshr(word, WORD(16)), WORD(1))  # a tie goes to the even one
        rounded = builder.add(builder.add(word, WORD(0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, WORD(16)), ir.IntType(16))

    def to_float(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0]

    return like(types.float32, like), to_half if like == types.uint16 else to_float


widen = cast(Callable[[Any], Any], _widen)  # as compiled loops call them: without the context
narrow = cast(Callable[[Any, Any], Any], _narrow)
