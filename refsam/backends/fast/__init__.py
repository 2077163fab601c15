"""The fast backend: NumPy and threads, float32. Tiles that stay in the cache, fused steps, weights folded once.

It replaces whole model functions. To add one, write in a module of this package

    @replaces(tiny_vit.mb_conv)
    def mb_conv(workers: Workers, s: Scope, x: Array) -> Array:
        w = s.prepared(fold_mb_conv)                          # your own NamedTuple, made once from the scope's weights
        out = workers.empty(...)
        workers.map(rows, [(w, x, out, top, bottom) for ...])  # rows(scratch, w, x, out, top, bottom), on any thread
        return s.tap(out)                                     # what the definition taps under s.name, if it does

and import the module in `ops.py`. The function has to be marked @replaceable where it is defined. It is called only for float32
and only when no stage inside it is traced. Tasks write to different parts of their results, and the list of tasks does not depend
on the number of threads: so neither do the bits. `scratch.take(shape)` gives memory for the duration of one task. For helper
processes to take part (processes.py), tasks are functions of a module, results come from `workers.empty`, and weights are
`fold.frozen`.
"""

from refsam.backends.fast.ops import FastOps

__all__ = ["FastOps"]
