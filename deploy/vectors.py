"""Vector instructions for compiled loops: 16-bit lanes, one neuron a lane, written in LLVM's own terms.

LLVM turns them into AVX-512 (vpopcntw) where the processor has it, elsewhere into what there is, with equal results.
Offsets count elements of the array they follow. Arrays must be contiguous; nothing here checks a range.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

cgutils: Any = _cgutils  # which says nothing of its types

LANES = 32  # neurons of a 512-bit vector
WIDE = 4  # vectors that share one broadcast of axons
BLOCK = LANES * WIDE  # neurons of one pass

_BIT, _HALF, _WORD, _LONG = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_HALF, LANES)


def _weigh(
    _: Any, lanes: Any, at: Any, blocks: Any, s: Any, starts: Any, row: Any, weight: Any, w_at: Any, total: Any
) -> Any:
    """total[j] = weights x synapses of active axons, for the neurons of some blocks; sums wrap at 16 bits.

    lanes u16 [.., groups, BLOCK]: bit b of lane j: axon 16 * group + b reaches neuron j. s u16 [1 + 2 * segments]: the
    number of groups, then for each segment the group and its active axons of one type; type g has the segments
    starts[row, g] up to starts[row, g+1] (i64 [L, G+1]). weight i16 [.., G, M], total i16 [M], M neurons.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _Weigh(context, builder, signature, args).emit()
        return context.get_dummy_value()

    long = types.int64
    return types.void(lanes, long, long, s, starts, long, weight, long, total), generate


class _Weigh:
    """The code of `weigh`: for each block, for each type, for each segment."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.b = builder
        self.lanes, self.s, self.starts, self.weight, self.total = (
            _pointer(context, builder, signature.args[i], args[i]) for i in (0, 3, 4, 6, 8)
        )
        self.at, self.blocks, self.w_at = args[1], args[2], args[7]
        ends, neurons = (_last_axis(context, builder, signature.args[i], args[i]) for i in (4, 8))
        self.types, self.neurons = builder.sub(ends, _LONG(1)), neurons
        self.starts = builder.gep(self.starts, [builder.mul(args[5], ends)])
        self.groups = builder.zext(builder.load(self.s), _LONG)
        self.hits = [cgutils.alloca_once(builder, _VECTOR) for _ in range(WIDE)]
        self.sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(WIDE)]

    def emit(self) -> None:
        b = self.b
        size = b.mul(self.groups, _LONG(BLOCK))
        with cgutils.for_range(b, self.blocks, intp=_LONG) as block:
            base = b.add(self.at, b.mul(block.index, size))
            neuron = b.mul(block.index, _LONG(BLOCK))
            self._clear(self.sums)
            with cgutils.for_range(b, self.types, intp=_LONG) as kind:
                first, last = (b.load(b.gep(self.starts, [b.add(kind.index, _LONG(more))])) for more in (0, 1))
                with b.if_then(b.icmp_signed("<", first, last)):
                    self._one_type(base, first, last)
                    self._times(b.add(b.add(self.w_at, b.mul(kind.index, self.neurons)), neuron))
            for k, place in enumerate(self.sums):
                b.store(b.load(place), _vector_at(b, self.total, b.add(neuron, _LONG(LANES * k))), align=2)

    def _clear(self, places: list[Any]) -> None:
        for place in places:
            self.b.store(ir.Constant(_VECTOR, None), place)

    def _one_type(self, base: Any, first: Any, last: Any) -> None:
        """Synapses hit by the active axons of one type, of some segments."""
        b = self.b
        self._clear(self.hits)
        with cgutils.for_range(b, b.sub(last, first), intp=_LONG) as segment:
            place = b.add(_LONG(1), b.shl(b.add(first, segment.index), _LONG(1)))
            group = b.zext(b.load(b.gep(self.s, [place])), _LONG)
            active = _spread(b, b.load(b.gep(self.s, [b.add(place, _LONG(1))])))
            row = b.add(base, b.mul(group, _LONG(BLOCK)))
            for k, hits in enumerate(self.hits):
                lane = b.load(_vector_at(b, self.lanes, b.add(row, _LONG(LANES * k))), align=2)
                b.store(b.add(b.load(hits), _ctpop(b, b.and_(lane, active))), hits)

    def _times(self, at: Any) -> None:
        b = self.b
        for k, (hits, place) in enumerate(zip(self.hits, self.sums, strict=True)):
            weight = b.load(_vector_at(b, self.weight, b.add(at, _LONG(LANES * k))), align=2)
            b.store(b.add(b.load(place), b.mul(b.load(hits), weight)), place)


def _reaches(_: Any, total: Any, threshold: Any, at: Any, blocks: Any, out: Any, out_at: Any) -> Any:
    """Bit j of out (u64 words) = total[j] >= threshold[at + j], both i16, for some blocks of neurons."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b = builder
        sums, limits, words = (_pointer(context, b, signature.args[i], args[i]) for i in (0, 1, 4))
        halves = b.bitcast(b.gep(words, [args[5]]), _WORD.as_pointer())
        with cgutils.for_range(b, b.mul(args[3], _LONG(WIDE)), intp=_LONG) as loop:
            neuron = b.mul(loop.index, _LONG(LANES))
            v = b.load(_vector_at(b, sums, neuron), align=2)
            limit = b.load(_vector_at(b, limits, b.add(args[2], neuron)), align=2)
            b.store(b.bitcast(b.icmp_signed(">=", v, limit), _WORD), b.gep(halves, [loop.index]))
        return context.get_dummy_value()

    return types.void(total, threshold, types.int64, types.int64, out, types.int64), generate


def _lowest(_: Any, word: Any) -> Any:
    """Place of the lowest set bit of a u64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(_BIT, 1))

    return types.int64(types.uint64), generate


def _last_axis(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return builder.extract_value(context.make_array(kind)(context, builder, value).shape, kind.ndim - 1)


def _pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    assert kind.layout == "C", "offsets are those of contiguous arrays"
    return context.make_array(kind)(context, builder, value).data


def _vector_at(builder: Any, pointer: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [offset]), _VECTOR.as_pointer())


def _spread(builder: Any, value: Any) -> Any:
    """One 16-bit value in every lane."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, value, _WORD(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_WORD, LANES), None))


def _ctpop(builder: Any, vector: Any) -> Any:
    # By its full name: the builder's own ctpop refuses vectors.
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i16"), [vector])


weigh: Any = intrinsic(_weigh)
reaches: Any = intrinsic(_reaches)
lowest: Any = intrinsic(_lowest)
