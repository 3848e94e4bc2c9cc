"""Counters that the threads of a compiled loop share: each is read and changed in one moment, whoever else does.

A thread waits for another by reading a counter over and over, which takes far less than the system needs to wake one
up; after a while it gives the processor away at each turn, so that a busy machine loses little. Counters are i64;
places that different threads write should be APART of each other.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from deploy.kernels import kernel

cgutils: Any = _cgutils  # which says nothing of its types

APART = 8  # counters, so that two of them never share a line of the cache
PATIENCE = 4000  # readings before the processor is given away

_LONG = ir.IntType(64)


def _take(_: Any, counters: Any, place: Any, amount: Any) -> Any:
    """counters[place], and add an amount to it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _at(context, builder, signature, args), args[2], "acq_rel")

    return types.int64(counters, types.int64, types.int64), generate


def _peek(_: Any, counters: Any, place: Any) -> Any:
    """counters[place]; what its writer wrote before is seen from here on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_at(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.int64), generate


def _put(_: Any, counters: Any, place: Any, value: Any) -> Any:
    """counters[place] = value; whoever reads it sees all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _at(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.int64, types.int64), generate


def _give_way(_: Any) -> Any:
    """Let another thread have the processor, where one wants it (POSIX)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


def _at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    assert signature.args[0].layout == "C", "offsets are those of contiguous arrays"
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


take: Any = intrinsic(_take)
peek: Any = intrinsic(_peek)
put: Any = intrinsic(_put)
give_way: Any = intrinsic(_give_way)


@kernel
def wait(counters: Any, place: int, least: int) -> int:
    """Until counters[place] is at least so much; returns what it is then."""
    readings = 0
    found = peek(counters, place)
    while found < least:
        readings += 1
        if readings > PATIENCE:
            give_way()
        found = peek(counters, place)
    return int(found)
