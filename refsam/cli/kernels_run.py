"""`refsam kernels run`: one kernel of any .metal file, on arrays from files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, print_json
from refsam.cli.kernels_device import DeviceOptions
from refsam.cli.results import check_places
from refsam.errors import InputError
from refsam.files import atomic_write
from refsam.formats import npz_file
from refsam.metal import sources
from refsam.metal.runner import Runner
from refsam.metal.signature import Argument, arguments, declares, encode, fields, layout, pack
from refsam.types import Array

MAX_BYTES = 1 << 31

Threads = Annotated[int, Parameter(help="How many threads at least; the device rounds up to whole groups.")]
Save = Annotated[list[str] | None, Parameter(help="BUFFER=FILE.npy: save what is in that buffer afterwards.")]


def run(
    file: Path,
    kernel: str,
    /,
    *values: str,
    threads: Threads,
    save: Save = None,
    device: DeviceOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Run KERNEL of FILE.metal with one VALUE for each of its buffers, in order.

    A VALUE is a file (.npy of the buffer's type, or its raw bytes), TYPE:SHAPE for zeros (float32:3x4), or parameters:
    5, or n=5,mean=1:2:3 for a struct. With --checked the emulator finds races, wrong accesses and missing barriers.
    """
    source = sources.read(file)
    signature = arguments(source, kernel)
    if len(values) != len(signature):
        wanted = ", ".join(f"{a.name} ({a.type})" for a in signature)
        raise InputError(f"kernel {kernel} has {len(signature)} buffers: {wanted}; {len(values)} values are given")
    targets = dict(_target(word, signature) for word in save or [])
    check_places(list(targets.values()), [file])
    bound = [_value(word, argument, source) for word, argument in zip(values, signature, strict=True)]
    runner = Runner((device or DeviceOptions()).open())
    results = runner.launch(source, runner.compile(source), kernel, bound, threads, whole=False)
    for index, path in targets.items():
        with atomic_write(path) as opened:
            np.save(opened, results[index])
    rows = [_summary(signature[index], array, targets.get(index)) for index, array in results.items()]
    if as_json:
        print_json({"file": file, "kernel": kernel, "threads": threads, "buffers": rows})
    else:
        for row in rows:
            print(_line(row))
    return OK


def _line(row: dict[str, Any]) -> str:
    """`_summary` for people."""
    shape = "x".join(map(str, row["shape"]))
    extent = [] if row["min"] is None else [f"{row['min']:.6g} to {row['max']:.6g}"]
    nan = [f"{row['nan']} NaN"] if row["nan"] else []
    file = [f"wrote {row['file']}"] if row["file"] else []
    return f"buffer {row['buffer']} {row['name']}: " + ", ".join([f"{row['dtype']} {shape}", *extent, *nan, *file])


def _target(word: str, signature: Sequence[Argument]) -> tuple[int, Path]:
    number, equals, path = word.partition("=")
    if not equals or not number.isdecimal() or int(number) >= len(signature) or not signature[int(number)].writable:
        written = [a.index for a in signature if a.writable]
        raise InputError(f"--save {word!r}: BUFFER=FILE.npy is needed, BUFFER one of {written}")
    return int(number), Path(path)


def _value(word: str, argument: Argument, source: str) -> Any:
    """What a VALUE on the command line stands for."""
    if argument.is_struct:
        return _parameters(word, argument, source)
    fresh = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", word)
    if fresh is not None:
        shape, dtype = tuple(int(n) for n in fresh[2].split("x")), _dtype(fresh[1])
        if np.prod(shape, dtype=np.float64) * dtype.itemsize > MAX_BYTES:
            raise InputError(f"{word} is more than {MAX_BYTES} bytes")
        return np.zeros(shape, dtype)
    return _array(Path(word), layout(argument.type).scalar)


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        raise InputError(f"{name!r} is no type; float32, float16, int32, uint32, uint8 and the like are") from None


def _array(path: Path, dtype: np.dtype[Any]) -> Array:
    """A file's content: .npy says its own type, which the runner holds against the buffer's; other bytes are read as `dtype`."""
    if path.suffix == ".npy":
        return np.ascontiguousarray(npz_file.read_npy(path))
    try:
        loaded = np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if loaded.size % dtype.itemsize:
        raise InputError(f"{path} has {loaded.size} bytes, which are no whole number of {dtype.name}")
    return loaded.view(dtype)


def _parameters(word: str, argument: Argument, source: str) -> bytes:
    """n=5,mean=1:2:3 for a struct, 5 or 1:2:3 for a single value."""
    if "=" not in word:
        if declares(source, argument.type):
            names = ", ".join(f"{name} ({kind})" for kind, name in fields(source, argument.type))
            raise InputError(
                f"buffer {argument.index} ({argument.name}) is a struct of {names}: NAME=NUMBER,NAME=1:2:3, not {word!r}"
            )
        return encode(argument.type, _numbers(word))
    given = [field.partition("=") for field in word.split(",")]
    return pack(source, argument.type, {name.strip(): _numbers(text) for name, _, text in given})


def _numbers(text: str) -> list[float | int]:
    try:
        return [_number(n) for n in text.split(":")]
    except ValueError:
        raise InputError(f"{text!r} is not a number, nor several with colons between them") from None


def _number(text: str) -> float | int:
    """5, 0xe0, 1e-6, inf: whole numbers first, since an integer field takes no float, and 0xe0 has no exponent."""
    try:
        return int(text, 0)
    except ValueError:
        return float(text)


def _summary(argument: Argument, array: Array, path: Path | None) -> dict[str, Any]:
    """A row of the output: the range is that of the numbers, and what is none is counted."""
    numbers = array[~np.isnan(array)]
    return {
        "buffer": argument.index,
        "name": argument.name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "min": float(numbers.min()) if numbers.size else None,
        "max": float(numbers.max()) if numbers.size else None,
        "nan": array.size - numbers.size,
        "file": path,
    }
