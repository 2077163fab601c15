"""Every error that refsam raises on purpose.

An error names the value that is wrong and says what would be right. On the console each becomes one line on stderr.
"""


class RefsamError(Exception):
    """Base of all errors of this package."""


class InputError(RefsamError, ValueError):
    """An argument, a prompt, an image or a file is not what it has to be."""


class CheckpointError(InputError):
    """A weights file cannot be used: damaged, of another model, or with tensors that do not fit the graph."""


class NotReady(RefsamError, RuntimeError):
    """Something has to be called first (upstream raises RuntimeError in these places)."""


class BackendUnavailable(RefsamError):
    """The asked backend, or a package or device that it needs, is not there."""


class KernelError(RefsamError):
    """A Metal kernel was refused by the compiler or failed, or the device did not do what it was asked to."""


class PackageError(InputError):
    """A Core ML package cannot be read: damaged, of another kind, or with numbers that do not fit together."""


class UnsupportedOp(PackageError):
    """A Core ML program has an operation, or a variant of one, that refsam does not compute."""
