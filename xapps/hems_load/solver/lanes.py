"""Vectors of homes as values of compiled code: `get` sixteen numbers from an array, calculate, `put` them back.

A value holds one number per home of a block and calculates in all of them at once: with operators, with numbers, with
`lesser` and `greater`. The processor's widest registers are used whatever the compiler's own vectoriser would
make of a loop, and kernels read as their formulas do. Single and double precision; a sum of both is double.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.typeconv import Conversion
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

__all__ = ["LANES", "choose", "fill", "get", "greater", "lesser", "like", "put", "word"]

Function = TypeVar("Function", bound=Callable[..., Any])
_lowered = cast(Callable[..., Callable[[Function], Function]], lower_builtin)
_casting = cast(Callable[..., Callable[[Function], Function]], lower_cast)

LANES = 16
"""Homes side by side: one register of 512 bits in single precision."""
FLAGS = ("nsz", "arcp", "contract")
"""Products and sums may be fused; infinities and what is not a number stay."""


class _Lanes(types.Type):
    """LANES numbers of one precision."""

    def __init__(self, of: Any) -> None:
        self.of = of
        super().__init__(name=f"Lanes({of})")

    def unify(self, _context: Any, other: Any) -> Any:
        """A variable that is now single, now double, is double."""
        return DOUBLE if isinstance(other, _Lanes) else None

    def can_convert_to(self, _context: Any, other: Any) -> Any:
        """Single to double."""
        return Conversion.promote if other is DOUBLE else None

    @property
    def vector(self) -> Any:
        """What LLVM calls it."""
        return ir.VectorType(ir.FloatType() if self.of is types.float32 else ir.DoubleType(), LANES)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: _Lanes) -> None:
        super().__init__(manager, kind, kind.vector)


SINGLE, DOUBLE = _Lanes(types.float32), _Lanes(types.float64)


def _converted(builder: Any, value: Any, kind: Any, into: _Lanes) -> Any:
    """`value` of `kind` (lanes or a number) as `into`."""
    if isinstance(kind, _Lanes):
        if kind is into:
            return value
        return builder.fpext(value, into.vector) if into is DOUBLE else builder.fptrunc(value, into.vector)
    scalar = value
    if into is SINGLE:
        scalar = builder.fptrunc(value, ir.FloatType())
    lane = ir.IntType(32)
    one = builder.insert_element(ir.Constant(into.vector, ir.Undefined), scalar, lane(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(lane, LANES), [0] * LANES))


def _wider(left: Any, right: Any) -> _Lanes:
    return DOUBLE if DOUBLE in (left, right) else SINGLE


def _largest(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def _least(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", left, right), left, right)


def lesser(left: Any, right: Any) -> Any:
    """The lesser of both in each lane; `right` where one is not a number."""
    return min(left, right)


def greater(left: Any, right: Any) -> Any:
    """The greater of both in each lane; `right` where one is not a number."""
    return max(left, right)


_PAIRS = [(a, b) for a in (SINGLE, DOUBLE, types.float64) for b in (SINGLE, DOUBLE, types.float64)][:-1]


def _define(function: Any, make: Callable[[Any, Any, Any], Any]) -> None:
    """Give `function` of two lanes, or of lanes and a number, its meaning in compiled code."""
    cases_ = [signature(_wider(a, b), a, b) for a, b in _PAIRS]

    @infer_global(function)
    class _Template(ConcreteTemplate):  # type: ignore[misc]
        cases = cases_

    def lower(_context: Any, builder: Any, sig: Any, values: Any) -> Any:
        parts = [_converted(builder, v, kind, sig.return_type) for v, kind in zip(values, sig.args, strict=True)]
        return make(builder, *parts)

    for case in cases_:
        _lowered(function, *case.args)(lower)


def _add(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b, flags=FLAGS)


def _subtract(builder: Any, a: Any, b: Any) -> Any:
    return builder.fsub(a, b, flags=FLAGS)


def _multiply(builder: Any, a: Any, b: Any) -> Any:
    return builder.fmul(a, b, flags=FLAGS)


def _divide(builder: Any, a: Any, b: Any) -> Any:
    return builder.fdiv(a, b, flags=FLAGS)


for _functions, _make in (
    ((operator.add, operator.iadd), _add),
    ((operator.sub, operator.isub), _subtract),
    ((operator.mul, operator.imul), _multiply),
    ((operator.truediv,), _divide),
):
    for _function in _functions:
        _define(_function, _make)
_define(lesser, _least)
_define(greater, _largest)


@infer_global(operator.neg)
class _Negative(ConcreteTemplate):  # type: ignore[misc]
    cases = (signature(SINGLE, SINGLE), signature(DOUBLE, DOUBLE))


@_lowered(operator.neg, _Lanes)
def _negative(_context: Any, builder: Any, _sig: Any, values: Any) -> Any:
    return builder.fneg(values[0], flags=FLAGS)


@_casting(_Lanes, _Lanes)
def _cast(_context: Any, builder: Any, kind: _Lanes, into: _Lanes, value: Any) -> Any:
    return _converted(builder, value, kind, into)


def _address(context: Any, builder: Any, array: Any, value: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _get(_typing: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 (numba asks for it)
    """The lanes of `array` (one axis, contiguous) from the index on; nobody checks bounds."""
    kind = SINGLE if array.dtype is types.float32 else DOUBLE

    def code(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        at = _address(context, builder, sig.args[0], values[0], values[1], kind.vector)
        return builder.load(at, align=array.dtype.bitwidth // 8)

    return kind(array, types.intp), code


def _word(_typing: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 (numba asks for it)
    """A whole number of `array` (one axis, contiguous); nobody checks bounds, nor counts from the end."""

    def code(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, values[0]).data
        return builder.load(builder.gep(data, [values[1]]))

    return types.int64(array, types.intp), code


def _put(_typing: Any, array: Any, index: Any, lanes: Any) -> Any:  # noqa: ARG001 (numba asks for it)
    """Store lanes, or one number in each of them, to `array` from the index on, in its precision."""
    kind = SINGLE if array.dtype is types.float32 else DOUBLE
    given = lanes if isinstance(lanes, _Lanes) else types.float64

    def code(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        at = _address(context, builder, sig.args[0], values[0], values[1], kind.vector)
        builder.store(_converted(builder, values[2], given, kind), at, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, given), code


def _fill(_typing: Any, array: Any, number: Any) -> Any:  # noqa: ARG001 (numba asks for it)
    """Lanes of the precision of `array`, the number in each."""
    kind = SINGLE if array.dtype is types.float32 else DOUBLE

    def code(_context: Any, builder: Any, _sig: Any, values: Any) -> Any:
        return _converted(builder, values[1], types.float64, kind)

    return kind(array, types.float64), code


def _like(_typing: Any, array: Any, lanes: Any) -> Any:
    """`lanes` in the precision of `array`."""
    kind = SINGLE if array.dtype is types.float32 else DOUBLE

    def code(_context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return _converted(builder, values[1], sig.args[1], kind)

    return kind(array, lanes), code


def _choose(_typing: Any, test: Any, left: Any, right: Any) -> Any:
    """`left` in the lanes where `test` is above 0, `right` elsewhere; all three of one precision."""
    kind = test

    def code(_context: Any, builder: Any, _sig: Any, values: Any) -> Any:
        return builder.select(
            builder.fcmp_ordered(">", values[0], ir.Constant(kind.vector, [0.0] * LANES)), *values[1:]
        )

    return kind(test, left, right), code


# As the kernels see them: without the compiler's own first argument.
get: Callable[[Any, Any], Any] = intrinsic(_get)
word: Callable[[Any, Any], int] = intrinsic(_word)
put: Callable[[Any, Any, Any], None] = intrinsic(_put)
fill: Callable[[Any, float], Any] = intrinsic(_fill)
like: Callable[[Any, Any], Any] = intrinsic(_like)
choose: Callable[[Any, Any, Any], Any] = intrinsic(_choose)
