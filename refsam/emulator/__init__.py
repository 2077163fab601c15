"""Runs Metal compute kernels on a CPU, behind the interface of `metalcompute`.

    import numpy as np
    from refsam import emulator as mc

    device = mc.Device(checked=True)
    square = device.kernel(source).function("square")
    x, y = device.buffer(np.arange(8, dtype=np.float32)), device.buffer(8 * 4)
    square(8, x, y, np.uint32(8))
    np.frombuffer(y, np.float32)

docs/emulator.md says what it promises and what it cannot.
"""

from refsam.emulator.buffer import Buffer
from refsam.emulator.device import Device, DeviceInfo, Function, Kernel, Run, get_devices
from refsam.emulator.error import error

__all__ = ["Buffer", "Device", "DeviceInfo", "Function", "Kernel", "Run", "error", "get_devices"]
