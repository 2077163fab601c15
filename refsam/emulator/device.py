"""metalcompute's classes: Device, Kernel, Function, Buffer, Run."""

import platform
import time
from typing import Any, NamedTuple

from refsam.emulator.buffer import Buffer
from refsam.emulator.build import Compiled, compile_source
from refsam.emulator.checker import Checker
from refsam.emulator.error import error
from refsam.emulator.library import Library
from refsam.emulator.options import Options
from refsam.emulator.parse import MAX_BUFFERS, Signature
from refsam.emulator.plan import plan


class DeviceInfo(NamedTuple):
    """What metalcompute tells of a device."""

    deviceName: str
    recommendedMaxWorkingSetSize: int
    maxTransferRate: int
    hasUnifiedMemory: bool


def get_devices() -> tuple[DeviceInfo, ...]:
    """The one emulated device."""
    return (DeviceInfo(f"refsam emulator ({platform.machine()})", 2**34, 0, True),)


class Device:
    """An emulated GPU.

    Args:
        index: metalcompute's number of the device: -1 (the default one) or 0.
        options: see refsam.emulator.options.Options: checked, threads, group_size, simd_width, seed, fast_math, noise,
            flush_denormals, step_limit.

    Raises error where there is no such device, InputError on an option that makes no sense.
    """

    def __init__(self, index: int = -1, **options: Any) -> None:
        if index not in (-1, 0):
            raise error("Device not found")
        self.options = Options(**options)

    def kernel(self, source: str) -> "Kernel":
        """Compile Metal source."""
        return Kernel(self, source)

    def buffer(self, content: Any) -> Buffer:
        """A new buffer: of so many zero bytes, or a copy of what supports the buffer protocol."""
        return Buffer(self, content)

    def __str__(self) -> str:
        return f"metalcompute.Device({get_devices()[0].deviceName})"


class Kernel:
    """Compiled Metal source with one or more functions.

    Raises error in the words of the compiler, `program_source:LINE:COLUMN: error: ...`.
    """

    def __init__(self, device: Device, source: str) -> None:
        self.device = device
        self.compiled: Compiled = compile_source(source, device.options)
        runner = Checker if device.options.checked else Library
        self._runner = runner(self.compiled, device.options)

    @property
    def warnings(self) -> str:
        """What the compiler said without refusing."""
        return self.compiled.facts.warnings

    def function(self, name: str) -> "Function":
        """The kernel of that name."""
        return Function(self, name)

    def __str__(self) -> str:
        return "metalcompute.Kernel"


class Function:
    """One kernel function; calling it runs it: `function(count, buffer0, buffer1, ...)`."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        found = [s for s in kernel.compiled.signatures if s.name == name]
        if not found:
            raise error("Function not found")
        self.kernel = kernel
        self.signature: Signature = found[0]

    def __call__(self, count: int, *arguments: Any) -> "Run":
        """Run for (at least) `count` threads.

        Args:
            count: rounded up to whole groups; the kernel has to know its own bounds.
            arguments: for [[buffer(0)]], [[buffer(1)]] ... each a Buffer, an int for a zeroed buffer of that many bytes, or
                something with the buffer protocol, which is copied: results can be read from a Buffer only.
        """
        return Run(self, int(count), [self._buffer(argument) for argument in arguments])

    def _buffer(self, argument: Any) -> Buffer:
        device = self.kernel.device
        if not isinstance(argument, Buffer):
            return Buffer(device, argument)
        if argument.device is not device:
            raise error(f"{self.signature.name}: a buffer of another device")
        return argument

    def __str__(self) -> str:
        return "metalcompute.Function"


class Run:
    """A running dispatch: results are there once the handle is gone. Here the work is done before the handle is returned."""

    def __init__(self, function: Function, count: int, buffers: list[Buffer]) -> None:
        signature = function.signature
        kernel = function.kernel
        self._check(signature, kernel.compiled.facts.needs[signature.name], buffers)
        self._buffers = buffers
        dispatch = plan(kernel.compiled, signature.name, count, kernel.device.options)
        begin = time.perf_counter()
        kernel._runner.run(dispatch, buffers)
        self.seconds = time.perf_counter() - begin

    @staticmethod
    def _check(signature: Signature, needs: dict[str, int], buffers: list[Buffer]) -> None:
        """metalcompute leaves what is missing unbound and does not look at sizes; a GPU would read anything there."""
        if len(buffers) > MAX_BUFFERS:
            raise error(f"{signature.name}: {len(buffers)} buffers; Metal has slots for {MAX_BUFFERS}")
        for slot, argument in sorted(signature.buffers().items()):
            if slot >= len(buffers):
                raise error(f"{signature.name}: no buffer for `{argument.name}` [[buffer({slot})]]: {len(buffers)} were given")
            need = needs.get(str(slot), 0)
            if buffers[slot].length < need:
                had = buffers[slot].length
                raise error(f"{signature.name}: `{argument.name}` [[buffer({slot})]] refers to {need} bytes; {had} were given")

    def __str__(self) -> str:
        return "metalcompute.Run"
