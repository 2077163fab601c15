"""The options that choose what runs kernels."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from refsam.errors import InputError
from refsam.metal.device import Device, default_name, open_device


@Parameter(name="*")
@dataclass(frozen=True)
class DeviceOptions:
    """What runs the kernels. All but --device are for the emulator."""

    device: Annotated[
        Literal["auto", "metal", "emulator"], Parameter(help="auto: a Metal device where there is one, else the emulator.")
    ] = "auto"
    checked: Annotated[bool, Parameter(negative=(), help="Find races, wrong accesses, missing barriers; slow.")] = False
    strict: Annotated[bool, Parameter(negative=(), help="IEEE arithmetic in place of fast math.")] = False
    noise: Annotated[int, Parameter(help="Other than 0: move results within what Metal allows, by this seed.")] = 0
    seed: Annotated[int, Parameter(help="Other than 0: shuffle groups and SIMD-groups by this seed.")] = 0
    group_size: Annotated[int | None, Parameter(help="Greatest number of threads in a group.")] = None
    simd_width: Annotated[int | None, Parameter(help="16, 32 or 64.")] = None
    keep_denormals: Annotated[bool, Parameter(negative=(), help="Do not flush them to zero.")] = False
    cpu_threads: Annotated[
        int | None, Parameter(help="CPU threads (default: $REFSAM_THREADS, else the CPUs that there are).")
    ] = None

    def open(self) -> Device:
        """The device. Raises InputError where an option is not for it, BackendUnavailable where it is not there."""
        name = default_name() if self.device == "auto" else self.device
        options: dict[str, Any] = {
            "checked": self.checked or None,
            "fast_math": False if self.strict else None,
            "noise": self.noise or None,
            "seed": self.seed or None,
            "group_size": self.group_size,
            "simd_width": self.simd_width,
            "flush_denormals": False if self.keep_denormals else None,
            "threads": self.cpu_threads,
        }
        chosen = {key: value for key, value in options.items() if value is not None}
        if name == "metal" and chosen:
            raise InputError(f"{', '.join(sorted(chosen))}: only --device emulator can do that")
        return open_device(name, **chosen)
