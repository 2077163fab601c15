"""metalcompute's exception."""

from refsam.errors import RefsamError


class error(RefsamError):
    """What `metalcompute.error` is raised for, and every fault that checked mode finds in a kernel."""
