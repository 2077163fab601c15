"""The device that runs kernels: a Mac's GPU through metalcompute, or a CPU through refsam.emulator, behind one protocol."""

from typing import Any, Protocol

from refsam.errors import BackendUnavailable, InputError


class Function(Protocol):
    """A kernel, ready to run: call it with the number of threads (rounded up to whole groups) and a buffer for each argument.

    It returns a handle; when that is gone, the run is over.
    """

    def __call__(self, count: int, *buffers: Any) -> Any:
        """Start."""
        ...


class Kernel(Protocol):
    """A compiled source."""

    def function(self, name: str) -> Function:
        """The kernel of this name."""
        ...


class Device(Protocol):
    """What metalcompute.Device and refsam.emulator.Device both are."""

    def kernel(self, source: str) -> Kernel:
        """Compile."""
        ...

    def buffer(self, content: Any) -> Any:
        """Memory that both sides see: a copy of these bytes, or so many zero bytes. It has Python's buffer interface."""
        ...


NAMES = ("metal", "emulator")


def open_device(name: str, **options: Any) -> Device:
    """The device of this name; options are those of `refsam.emulator.Device`.

    Raises BackendUnavailable where it is not there, InputError for another name.
    """
    if name == "metal":
        return _metal()
    if name == "emulator":
        return _emulator(options)
    raise InputError(f"device is {name!r}; there are: {', '.join(NAMES)}")


def default_name() -> str:
    """ "metal" where metalcompute finds a device, else "emulator"."""
    try:
        _metal()
    except BackendUnavailable:
        return "emulator"
    return "metal"


def describe(device: Device) -> str:
    """The device's own name, in one line."""
    return " ".join(str(getattr(device, "name", None) or device).split())


def _metal() -> Device:
    try:
        import metalcompute
    except ImportError:
        raise BackendUnavailable(
            "metalcompute is not installed; it needs a Mac with Apple silicon (pip install metalcompute). Elsewhere the backend"
            " 'emulator' runs the same kernels"
        ) from None
    try:
        device: Device = metalcompute.Device()
    except metalcompute.error as error:
        raise BackendUnavailable(f"metalcompute finds no Metal device: {error}") from None
    return device


def _emulator(options: dict[str, Any]) -> Device:
    from refsam import emulator

    device: Device = emulator.Device(**options)
    return device
