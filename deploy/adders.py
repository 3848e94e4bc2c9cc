"""Adders made of logic, for compiled loops: 512 pictures a vector, bit p of all their sums in one vector.

Vertical counters as in Harley and Seal's population count: full adders take eight inputs to one carry of weight eight.
A row is LONGS words of u64; nothing here checks a range.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

cgutils: Any = _cgutils  # which says nothing of its types

LONGS = 8  # words of a row
EIGHT = 8  # entries of a block
FLIP = 1 << 15  # on the first entry of a block: its inputs count where they are 0
NOWHERE = FLIP - 1  # an entry that is 0 in every picture

_HALF, _LONG, _BIT = ir.IntType(16), ir.IntType(64), ir.IntType(1)
_VECTOR = ir.VectorType(_LONG, LONGS)
_NONE, _ALL = ir.Constant(_VECTOR, None), ir.Constant(_VECTOR, [-1] * LONGS)


def _count(
    _: Any, rows: Any, base: Any, nowhere: Any, entry: Any, first: Any, last: Any, sums: Any, plane: Any, planes: Any
) -> Any:
    """sums += 2**plane x the entries first .. last - 1, whole blocks of u16 [EIGHT]; sums u64 [planes, LONGS] wrap.

    An entry is a row after `base`, or NOWHERE: the row `nowhere`, which must be 0. `planes` is 3 more than `plane` or
    greater.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, entry, sums = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 3, 6))
        _Count(builder, rows, entry, sums).emit(*(args[i] for i in (1, 2, 4, 5, 7, 8)))
        return context.get_dummy_value()

    long = types.int64
    return types.void(rows, long, long, entry, long, long, sums, long, long), generate


class _Count:
    """The code of `count`."""

    def __init__(self, builder: Any, rows: Any, entry: Any, sums: Any) -> None:
        self.b, self.rows, self.entry, self.sums = builder, rows, entry, sums
        self.low = [cgutils.alloca_once(builder, _VECTOR) for _ in range(3)]  # planes of weight 1, 2, 4

    def emit(self, base: Any, nowhere: Any, first: Any, last: Any, plane: Any, planes: Any) -> None:
        b = self.b
        places = [_row(b, self.sums, b.add(plane, _LONG(p))) for p in range(3)]
        for kept, place in zip(self.low, places, strict=True):
            b.store(b.load(place, align=8), kept)
        blocks = b.udiv(b.sub(last, first), _LONG(EIGHT))
        with cgutils.for_range(b, blocks, intp=_LONG) as block:
            inputs = self._inputs(b.add(first, b.mul(block.index, _LONG(EIGHT))), base, nowhere)
            self._ripple(self._add(inputs), b.add(plane, _LONG(3)), planes)
        for kept, place in zip(self.low, places, strict=True):
            b.store(b.load(kept), place, align=8)

    def _inputs(self, at: Any, base: Any, nowhere: Any) -> list[Any]:
        """The eight rows of a block, flipped where it says so."""
        b = self.b
        entries = [b.load(b.gep(self.entry, [b.add(at, _LONG(i))])) for i in range(EIGHT)]
        flip = b.select(b.icmp_signed("<", entries[0], _HALF(0)), _ALL, _NONE)
        rows = [b.zext(b.and_(entry, _HALF(NOWHERE)), _LONG) for entry in entries]
        rows = [b.select(b.icmp_unsigned("==", row, _LONG(NOWHERE)), nowhere, b.add(base, row)) for row in rows]
        return [b.xor(b.load(_row(b, self.rows, row), align=8), flip) for row in rows]

    def _add(self, x: list[Any]) -> Any:
        """Eight inputs into the three low planes; returns what overflows them."""
        b = self.b
        ones, twos, fours = (b.load(place) for place in self.low)
        ones, two_a = self._adder(ones, x[0], x[1])
        ones, two_b = self._adder(ones, x[2], x[3])
        twos, four_a = self._adder(twos, two_a, two_b)
        ones, two_a = self._adder(ones, x[4], x[5])
        ones, two_b = self._adder(ones, x[6], x[7])
        twos, four_b = self._adder(twos, two_a, two_b)
        fours, eights = self._adder(fours, four_a, four_b)
        for place, value in zip(self.low, (ones, twos, fours), strict=True):
            b.store(value, place)
        return eights

    def _adder(self, a: Any, c: Any, d: Any) -> tuple[Any, Any]:
        """(sum, carry) of three bits, in every place."""
        b = self.b
        half = b.xor(a, c)
        return b.xor(half, d), b.or_(b.and_(a, c), b.and_(half, d))

    def _ripple(self, carry: Any, first: Any, planes: Any) -> None:
        b = self.b
        kept = cgutils.alloca_once(b, _VECTOR)
        b.store(carry, kept)
        with cgutils.for_range(b, b.sub(planes, first), intp=_LONG) as loop:
            place = _row(b, self.sums, b.add(first, loop.index))
            before, more = b.load(place, align=8), b.load(kept)
            b.store(b.xor(before, more), place, align=8)
            b.store(b.and_(before, more), kept)


def _at_least(_: Any, sums: Any, planes: Any, threshold: Any, fires: Any) -> Any:
    """fires u64 [1, LONGS] = sums u64 [planes, LONGS] >= threshold, which is 0 .. 2**planes - 1."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b = builder
        sums, fires = (_pointer(context, b, signature.args[i], args[i]) for i in (0, 3))
        above, equal = cgutils.alloca_once(b, _VECTOR), cgutils.alloca_once(b, _VECTOR)
        b.store(_NONE, above)
        b.store(_ALL, equal)
        with cgutils.for_range(b, args[1], intp=_LONG) as loop:
            plane = b.sub(b.sub(args[1], _LONG(1)), loop.index)
            bit = b.trunc(b.lshr(args[2], plane), _BIT)
            asked, found, same = b.select(bit, _ALL, _NONE), b.load(_row(b, sums, plane), align=8), b.load(equal)
            b.store(b.or_(b.load(above), b.and_(same, b.and_(found, b.not_(asked)))), above)
            b.store(b.and_(same, b.not_(b.xor(found, asked))), equal)
        b.store(b.or_(b.load(above), b.load(equal)), _row(b, fires, _LONG(0)), align=8)
        return context.get_dummy_value()

    return types.void(sums, types.int64, types.int64, fires), generate


def _merge(_: Any, rows: Any, row: Any, fires: Any) -> Any:
    """rows[row] |= fires[0], both u64 [.., LONGS]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, fires = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
        place = _row(builder, rows, args[1])
        more = builder.load(_row(builder, fires, _LONG(0)), align=8)
        builder.store(builder.or_(builder.load(place, align=8), more), place, align=8)
        return context.get_dummy_value()

    return types.void(rows, types.int64, fires), generate


def _pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    assert kind.layout == "C", "offsets are those of contiguous arrays"
    return context.make_array(kind)(context, builder, value).data


def _row(builder: Any, pointer: Any, row: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [builder.mul(row, _LONG(LONGS))]), _VECTOR.as_pointer())


count: Any = intrinsic(_count)
at_least: Any = intrinsic(_at_least)
merge: Any = intrinsic(_merge)
