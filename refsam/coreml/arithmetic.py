"""How a run computes: in which type, what is rounded to float16 and when, and on how many threads.

Core ML promises that a float16 program runs in float16 *or better*: the CPU may compute it in float32, the GPU stores float16
and accumulates in float32, the Neural Engine does all of it in float16. So no single result is right; these precisions mark out
the range in which a device's result should lie.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refsam.coreml.half import round_to_half
from refsam.coreml.types import TensorType, check_elements
from refsam.errors import InputError, PackageError
from refsam.threads import thread_count
from refsam.types import Array

PRECISIONS = ("fp64", "fp32", "fp16", "fp16-accumulate")
"""fp64 and fp32: everything in that type. fp16: every result is rounded to float16, sums are float32. fp16-accumulate: so are the
steps within softmax and the norms, and sums of products after every 16 terms."""

Precision = Literal["fp64", "fp32", "fp16", "fp16-accumulate"]

ACCUMULATED = 16
"""Products that are summed before a sum is rounded, where accumulation is float16."""

BLOCK = 1 << 17
"""Elements of one block of an elementwise chain, whose temporaries stay in the cache."""

PRODUCTS = 1 << 25
"""Multiplications of one tile of a matrix product. Tiles depend on shapes only: the bits do not depend on the threads."""

MAX_PRODUCTS = 1 << 36
"""Multiplications of one operation; MobileSAM's largest has 2^31. A program asks for them, so they need a bound."""


@dataclass(frozen=True)
class Arithmetic:
    """One run's.

    Attributes:
        precision: one of PRECISIONS, or None: every tensor as the program types it.
        pool: the threads.
    """

    precision: str | None
    pool: ThreadPoolExecutor

    @property
    def dtype(self) -> Any:
        """The type that floats are computed in; float16 values are float32 numbers that float16 has."""
        return np.float64 if self.precision == "fp64" else np.float32

    @property
    def accumulates_half(self) -> bool:
        """Whether sums are rounded to float16 on the way."""
        return self.precision == "fp16-accumulate"

    def rounds(self, kind: TensorType) -> bool:
        """Whether a float tensor of this type is stored as float16."""
        return kind.dtype == "fp16" if self.precision is None else self.precision.startswith("fp16")

    def step(self, x: Array) -> Array:
        """A result within an operation: rounded where such steps are."""
        return round_to_half(x) if self.accumulates_half else x

    def half(self, x: Array, in_place: bool = False) -> Array:
        """The nearest float16 numbers, in the type of `x`; what is beyond 65504 becomes infinity.

        `in_place`: nobody needs `x` any more.
        """
        return self.blocks(round_to_half, x, x if in_place and x.flags.c_contiguous and x.flags.writeable else None)

    def blocks(self, function: Callable[[Array, Array], object], x: Array, out: Array | None = None) -> Array:
        """An elementwise function of (input, output), block by block on all threads. `out` may be `x`."""
        result = np.empty(x.shape, x.dtype) if out is None else out
        flat, target = x.reshape(-1), result.reshape(-1)

        def one(start: int) -> None:
            function(flat[start : start + BLOCK], target[start : start + BLOCK])

        if x.size <= BLOCK:
            function(flat, target)
        else:
            self.each(one, range(0, x.size, BLOCK))
        return result

    def mapped(self, function: Callable[[Array], Array], x: Array) -> Array:
        """As `blocks`, of a function that returns its result."""
        return self.blocks(lambda part, out: np.copyto(out, function(part), casting="unsafe"), x)

    def pairs(self, function: np.ufunc, x: Array, y: Array) -> Array:
        """An elementwise function of two arrays; where they are large and have one shape, block by block on all threads."""
        if x.shape != y.shape or x.size <= BLOCK or not x.flags.c_contiguous or not y.flags.c_contiguous:
            return np.asarray(function(x, y))
        left, right = x.reshape(-1), y.reshape(-1)
        result = np.empty(x.shape, function(left[:1], right[:1]).dtype)
        flat = result.reshape(-1)

        def one(start: int) -> None:
            part = slice(start, start + BLOCK)
            function(left[part], right[part], out=flat[part])

        self.each(one, range(0, x.size, BLOCK))
        return result

    def rows(self, function: Callable[[Array], Array], x: Array) -> Array:
        """A function of the rows of `x` along its first axis, each by itself, a block of them at a time on all threads."""
        if x.size <= BLOCK or len(x) < 2:
            return function(x)
        result = np.empty_like(x)
        step = max(1, BLOCK // (x.size // len(x)))

        def some(start: int) -> None:
            result[start : start + step] = function(x[start : start + step])

        self.each(some, range(0, len(x), step))
        return result

    def each(self, function: Callable[[Any], None], items: Any) -> None:
        """Call `function` for each item, on all threads."""

        def quiet(item: Any) -> None:
            with np.errstate(all="ignore"):  # each thread has its own
                function(item)

        for _ in self.pool.map(quiet, items):
            pass

    def dot(self, a: Array, b: Array, bias: Array | None = None) -> Array:
        """The matrix product a @ b of the last two axes, the others broadcast, on all threads; plus `bias`, broadcast to it."""
        if a.ndim < 2 or b.ndim < 2:
            return self.product(a, b)
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*batch, a.shape[-2], b.shape[-1])
        check_elements("a matrix product", shape)
        products = math.prod(shape) * a.shape[-1]
        check_work(products)
        out = np.empty(shape, np.result_type(a, b))
        a, b = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
        added = None if bias is None else np.broadcast_to(bias, shape)
        axis = max((0, len(shape) - 2, len(shape) - 1), key=lambda i: shape[i])
        step = -(-shape[axis] // max(1, min(shape[axis], products // PRODUCTS)))

        def tile(start: int) -> None:
            part = (slice(None),) * axis + (slice(start, start + step),)
            left = a if axis == len(shape) - 1 else a[part]
            right = b if axis == len(shape) - 2 else b[part]
            target = out[part]
            self.product(left, right, target)
            if added is not None:
                np.add(target, added[part], out=target)

        self.each(tile, range(0, shape[axis], max(step, 1)))
        return out

    def product(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """As `dot`, on the calling thread."""
        if not self.accumulates_half or a.dtype.kind != "f":
            return np.asarray(np.matmul(a, b, out=out))
        total = self.step(np.matmul(a[..., :ACCUMULATED], _terms(b, 0)))
        for start in range(ACCUMULATED, a.shape[-1], ACCUMULATED):
            total = self.step(total + self.step(np.matmul(a[..., start : start + ACCUMULATED], _terms(b, start))))
        if out is None:
            return total
        out[...] = total
        return out


def check_work(products: int) -> None:
    """Raise PackageError where an operation would take absurdly long."""
    if products > MAX_PRODUCTS:
        raise PackageError(f"this would take {products} multiplications; at most {MAX_PRODUCTS} are done for one operation")


@contextmanager
def arithmetic(precision: str | None, threads: int | None = None) -> Iterator[Arithmetic]:
    """The arithmetic of one run. Raises InputError for an unknown precision."""
    if precision is not None and precision not in PRECISIONS:
        raise InputError(
            f"precision is {precision!r}; it has to be one of {', '.join(PRECISIONS)}, or None: as the program is typed"
        )
    with ThreadPoolExecutor(thread_count(threads)) as pool:
        yield Arithmetic(precision, pool)


def _terms(b: Array, start: int) -> Array:
    """The rows that the terms from `start` on are multiplied with."""
    return b[start : start + ACCUMULATED] if b.ndim == 1 else b[..., start : start + ACCUMULATED, :]
