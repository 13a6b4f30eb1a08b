"""Vector instructions for the kernels of the cpu backend, written as LLVM IR.

A test of 64 rows gives one 64-bit word, bit i for row i. LLVM compiles each function to a few AVX-512 instructions
(compare into a mask register, VPOPCNTQ), to AVX2, or to NEON, depending on the machine. Offsets count elements of a
one-dimensional C-contiguous array. Bounds are not checked.

The same functions as plain loops in numba give the same bytes, but the kernels take 4 to 12 times as long. This module
uses numba's internal API, so the version of numba is bounded, and tests compare each function with NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()

# Inner functions have no entry points from Python and C, which would double their compile time.
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True)
inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
fast_inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath=True)


def _splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    vector = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(vector, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, vector, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _address(context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, offset: ir.Value) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _load(builder: ir.IRBuilder, address: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
    vector = builder.load(builder.bitcast(address, ir.VectorType(element, lanes).as_pointer()))
    vector.align = 1
    return vector


def _store(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value) -> None:
    builder.store(vector, builder.bitcast(address, vector.type.as_pointer())).align = 1


def _prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, ir.Constant(_I32, 0), ir.Constant(_I32, 2), ir.Constant(_I32, 1)])


@intrinsic
def inside64(typing: Any, array: Any, offset: Any, low: Any, span: Any) -> Any:
    """Return which of 64 bytes from `offset` on lie in low..low + span: one subtraction, one unsigned comparison."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, offset, low, span = arguments
        rows = _load(builder, _address(context, builder, signature.args[0], array, offset), _I8, 64)
        shifted = builder.sub(rows, _splat(builder, low, 64))
        return builder.bitcast(builder.icmp_unsigned("<=", shifted, _splat(builder, span, 64)), _I64)

    return types.uint64(array, types.int64, types.uint8, types.uint8), generate


def _compare32(relation: str) -> Any:
    def typed(typing: Any, array: Any, offset: Any, bound: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            array, offset, bound = arguments
            zones = _load(builder, _address(context, builder, signature.args[0], array, offset), _I8, 32)
            hits = builder.icmp_unsigned(relation, zones, _splat(builder, bound, 32))
            return builder.zext(builder.bitcast(hits, _I32), _I64)

        return types.uint64(array, types.int64, types.uint8), generate

    return intrinsic(typed)


at_least32 = _compare32(">=")
"""at_least32(array, offset, bound): which of 32 bytes from offset on are >= bound, as uint64."""
at_most32 = _compare32("<=")
"""at_most32(array, offset, bound): which of 32 bytes from offset on are <= bound, as uint64."""


def _no_excess(builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """Return left - right, or 0 where left is not larger: zero says that left <= right."""
    name = f"llvm.usub.sat.v{left.type.count}i8"
    kind = ir.FunctionType(left.type, [left.type, left.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [left, right])


def _zero_bytes(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """Return a word with a bit for each byte that is zero."""
    zeros = builder.icmp_unsigned("==", vector, ir.Constant(vector.type, None))
    return builder.zext(builder.bitcast(zeros, ir.IntType(vector.type.count)), _I64)


def _tested(
    context: Any, builder: ir.IRBuilder, kinds: Any, box: Any, lanes: int, tests: Callable[..., list[ir.Value]]
) -> ir.Value:
    """Return two words: which bytes of two vectors of `lanes` have no excess in any range of a box.

    box: (features, low, high, start, stop), kinds: its types; tests: called with (feature, low, high) of a range, the
    bounds as vectors; returns the excess for each word.
    """
    features, low, high, start, stop = box
    vector = ir.VectorType(_I8, lanes)
    excess = [cgutils.alloca_once(builder, vector) for _ in range(2)]
    for total in excess:
        builder.store(ir.Constant(vector, None), total)
    with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, 1)) as (j, _):
        feature, lowest, highest = (
            builder.load(_address(context, builder, kind, array, j))
            for kind, array in zip(kinds, (features, low, high), strict=False)
        )
        bounds = [_splat(builder, bound, lanes) for bound in (lowest, highest)]
        for total, own in zip(excess, tests(builder.zext(feature, _I64), *bounds), strict=True):
            builder.store(builder.or_(builder.load(total), own), total)
    words = [_zero_bytes(builder, builder.load(total)) for total in excess]
    return context.make_tuple(builder, types.UniTuple(types.uint64, 2), words)


@intrinsic
def box_rows128(
    typing: Any, codes: Any, offset: Any, stride: Any, features: Any, low: Any, high: Any, start: Any, stop: Any
) -> Any:
    """Return two words: which of 128 rows lie in ranges start..stop-1 of a box.

    The codes of dim f begin at offset + f * stride. A range costs three vector instructions: the excess of code - low
    over high - low, with wrapping and saturating subtractions, is added to that of the other ranges.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        codes, offset, stride, *box = arguments

        def tests(feature: ir.Value, low: ir.Value, high: ir.Value) -> list[ir.Value]:
            column = builder.add(offset, builder.mul(feature, stride))
            span = builder.sub(high, low)
            found = []
            for half in (0, 64):
                at = _address(context, builder, signature.args[0], codes, builder.add(column, ir.Constant(_I64, half)))
                found.append(_no_excess(builder, builder.sub(_load(builder, at, _I8, 64), low), span))
            return found

        return _tested(context, builder, signature.args[3:], box, 64, tests)

    words = types.UniTuple(types.uint64, 2)
    return words(codes, types.int64, types.int64, features, low, high, types.int64, types.int64), generate


@intrinsic
def box_zones32(
    typing: Any, zones: Any, offset: Any, d: Any, features: Any, low: Any, high: Any, start: Any, stop: Any
) -> Any:
    """Return two words over 32 zones: those that overlap ranges start..stop-1 of a box, and those that lie in them.

    The minima of dim f begin at offset + 32 f, the maxima at offset + 32 (d + f).
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        zones, offset, d, *box = arguments

        def tests(feature: ir.Value, low: ir.Value, high: ir.Value) -> list[ir.Value]:
            smallest, largest = (
                _load(builder, _address(context, builder, signature.args[0], zones, builder.add(offset, at)), _I8, 32)
                for at in (builder.shl(f, ir.Constant(_I64, 5)) for f in (feature, builder.add(d, feature)))
            )
            apart = _no_excess(builder, smallest, high), _no_excess(builder, low, largest)
            beyond = _no_excess(builder, low, smallest), _no_excess(builder, largest, high)
            return [builder.or_(*apart), builder.or_(*beyond)]

        return _tested(context, builder, signature.args[3:], box, 32, tests)

    words = types.UniTuple(types.uint64, 2)
    return words(zones, types.int64, types.int64, features, low, high, types.int64, types.int64), generate


@intrinsic
def reach64(typing: Any, array: Any, offset: Any, bound: Any) -> Any:
    """Return which of 64 numbers (uint16, int32 or float32) from `offset` on are >= bound, of the same type."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, offset, bound = arguments
        rows = _load(builder, _address(context, builder, signature.args[0], array, offset), bound.type, 64)
        bounds = _splat(builder, bound, 64)
        if bound.type == _F32:
            hits = builder.fcmp_ordered(">=", rows, bounds)
        elif signature.args[2].signed:
            hits = builder.icmp_signed(">=", rows, bounds)
        else:
            hits = builder.icmp_unsigned(">=", rows, bounds)
        return builder.bitcast(hits, _I64)

    return types.uint64(array, types.int64, array.dtype), generate


@intrinsic
def count64(typing: Any, counts: Any, offset: Any, word: Any) -> Any:
    """Add bit i of a word to the i-th of 64 uint16 counts from `offset` on."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        counts, offset, word = arguments
        address = _address(context, builder, signature.args[0], counts, offset)
        ones = builder.zext(builder.bitcast(word, ir.VectorType(ir.IntType(1), 64)), ir.VectorType(_I16, 64))
        _store(builder, builder.add(_load(builder, address, _I16, 64), ones), address)
        return context.get_dummy_value()

    return types.void(counts, types.int64, types.uint64), generate


@intrinsic
def fetch(typing: Any, array: Any, offset: Any) -> Any:
    """Prefetch the cache line of an element into the second-level cache."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _prefetch(builder, _address(context, builder, signature.args[0], *arguments))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _unary(name: str) -> Any:
    def typed(typing: Any, word: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            if name == "cttz":
                return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))
            return builder.ctpop(arguments[0])

        return word(word), generate

    return intrinsic(typed)


lowest_bit = _unary("cttz")
"""lowest_bit(word): the number of the lowest set bit."""
popcount = _unary("ctpop")
"""popcount(word): the number of set bits."""


def _chunks(words: int) -> list[tuple[int, int]]:
    """Divide a row of words into vectors of 8, 4, 2 and 1 words: (first word, lanes)."""
    cuts, at = [], 0
    for lanes in (8, 4, 2, 1):
        while words - at >= lanes:
            cuts.append((at, lanes))
            at += lanes
    return cuts


def _widen(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    lanes = vector.type.count
    if lanes == 8:
        return vector
    order = [*range(lanes), *[lanes] * (8 - lanes)]
    zeros = ir.Constant(vector.type, [0] * lanes)
    return builder.shuffle_vector(vector, zeros, ir.Constant(ir.VectorType(_I32, 8), order))


def _counted(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    name = f"llvm.ctpop.v{vector.type.count}{vector.type.element}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector.type, [vector.type]), name)
    return builder.call(function, [vector])


def _weighted_differences(builder: ir.IRBuilder, address: ir.Value, planes: list[list[ir.Value]]) -> ir.Value:
    """Return <8 x i64> whose sum is sum_j 2^j popc(row ^ plane_j)."""
    word = address.type.pointee
    total: ir.Value | None = None
    for first, lanes in _chunks(len(planes[0])):
        row = _load(builder, builder.gep(address, [ir.Constant(_I64, first)]), word, lanes)
        chunk: ir.Value | None = None
        for plane in reversed(planes):
            fixed: ir.Value = ir.Constant(row.type, ir.Undefined)
            for lane in range(lanes):
                fixed = builder.insert_element(fixed, plane[first + lane], ir.Constant(_I32, lane))
            counted = _counted(builder, builder.xor(row, fixed))
            if word != _I64:
                counted = builder.zext(counted, ir.VectorType(_I64, lanes))
            chunk = counted if chunk is None else builder.add(builder.add(chunk, chunk), counted)
        wide = _widen(builder, chunk)
        total = wide if total is None else builder.add(total, wide)
    return total


def _reduced(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """Return the sum of <8 x i64>."""
    for step in (4, 2, 1):
        order = [*range(step, 2 * step), *range(2 * step, 8), *range(step)]
        moved = builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, 8), order))
        vector = builder.add(vector, moved)
    return builder.extract_element(vector, ir.Constant(_I32, 0))


@intrinsic
def differences4(typing: Any, bits: Any, offset: Any, planes: Any) -> Any:
    """Return sum_j 2^j popc(row ^ plane_j) of four rows of words from `offset` on, 16 bits each, first row lowest.

    bits: words, uint64 or uint32; planes: 4 tuples of as many words as a row has, so the loop over them is unrolled.
    A sum is at most 15 * 2,048, so four fit one word and share one horizontal addition.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        bits, offset, planes = arguments
        unpacked: Sequence[Any] = [
            cgutils.unpack_tuple(builder, plane) for plane in cgutils.unpack_tuple(builder, planes)
        ]
        words = len(unpacked[0])
        address = _address(context, builder, signature.args[0], bits, offset)
        packed: ir.Value | None = None
        for row in range(4):
            own = builder.gep(address, [ir.Constant(_I64, row * words)])
            sums = _weighted_differences(builder, own, [list(plane) for plane in unpacked])
            shifted = builder.shl(sums, ir.Constant(sums.type, [16 * row] * 8))
            packed = shifted if packed is None else builder.or_(packed, shifted)
        return _reduced(builder, packed)

    return types.uint64(bits, types.int64, planes), generate


def _pairs(builder: ir.IRBuilder, even: ir.Value, odd: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Interleave two <32 x i16> within 16-byte lanes by one instruction each: rows 0-3, 8-11, ... and 4-7, ..."""
    halves = []
    for half in (0, 4):
        order = [lane * 8 + half + i + side * 32 for lane in range(4) for i in range(4) for side in (0, 1)]
        halves.append(builder.shuffle_vector(even, odd, ir.Constant(ir.VectorType(_I32, 32), order)))
    return halves[0], halves[1]


def _pair_products(builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """Return left[2i] right[2i] + left[2i + 1] right[2i + 1], <16 x i32>, of <32 x i16>: one VPMADDWD."""
    wide = ir.VectorType(_I32, 32)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide), flags=["nsw"])
    pick = [ir.Constant(ir.VectorType(_I32, 16), [2 * i + side for i in range(16)]) for side in (0, 1)]
    even, odd = (builder.shuffle_vector(products, products, order) for order in pick)
    return builder.add(even, odd, flags=["nsw"])


def _zone_sums(*, square: bool) -> Any:
    def typed(typing: Any, codes: Any, offset: Any, ahead: Any, stride: Any, vector: Any, out: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            codes, offset, ahead, stride, vector, out = arguments
            dims = context.make_array(signature.args[4])(context, builder, vector)
            pairs = builder.udiv(builder.extract_value(dims.shape, 0), ir.Constant(_I64, 2))
            sums = [cgutils.alloca_once(builder, ir.VectorType(_I32, 16)) for _ in range(8)]
            for total in sums:
                builder.store(ir.Constant(total.type.pointee, [0] * 16), total)
            with cgutils.for_range(builder, pairs) as loop:
                f = builder.shl(loop.index, ir.Constant(_I64, 1))
                given = [
                    _splat(builder, builder.load(builder.gep(dims.data, [builder.add(f, ir.Constant(_I64, i))])), 32)
                    for i in (0, 1)
                ]
                columns = [builder.mul(builder.add(f, ir.Constant(_I64, i)), stride) for i in (0, 1)]
                for column in columns:
                    for line in (0, 64):
                        later = builder.add(builder.add(ahead, column), ir.Constant(_I64, line))
                        _prefetch(builder, _address(context, builder, signature.args[0], codes, later))
                for part in range(4):
                    rows = []
                    for column in columns:
                        at = builder.add(builder.add(offset, column), ir.Constant(_I64, 32 * part))
                        address = _address(context, builder, signature.args[0], codes, at)
                        rows.append(builder.zext(_load(builder, address, _I8, 32), ir.VectorType(_I16, 32)))
                    if square:
                        left = right = _pairs(builder, *(builder.sub(x, y) for x, y in zip(rows, given, strict=True)))
                    else:
                        left, right = _pairs(builder, *rows), _pairs(builder, *given)
                    for half in (0, 1):
                        total = sums[2 * part + half]
                        products = _pair_products(builder, left[half], right[half])
                        builder.store(builder.add(builder.load(total), products), total)
            data = context.make_array(signature.args[5])(context, builder, out).data
            order = [lane * 4 + i + side * 16 for lane in range(4) for side in (0, 1) for i in range(4)]
            for part in range(4):
                low, high = builder.load(sums[2 * part]), builder.load(sums[2 * part + 1])
                rows = builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(_I32, 32), order))
                if square:
                    rows = builder.neg(rows)
                _store(builder, rows, builder.gep(data, [ir.Constant(_I64, 32 * part)]))
            return context.get_dummy_value()

        return types.void(codes, types.int64, types.int64, types.int64, vector, out), generate

    return intrinsic(typed)


zone_squares = _zone_sums(square=True)
"""zone_squares(codes, offset, ahead, stride, vector, out): minus the squared L2 of 128 rows to vector, (d,) int16.

The codes of dim f begin at offset + f * stride; out, (128,) int32. It also prefetches the rows at `ahead`.
"""
zone_dots = _zone_sums(square=False)
"""zone_dots(codes, offset, ahead, stride, vector, out): the same for the dots with vector, (d,) int16 in -127..127."""
