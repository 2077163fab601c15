"""Texts that come from outside, such as names of files and tensors, as a terminal may show them."""


def one_line(text: str) -> str:
    """`text` in one line without control characters."""
    return printable(" ".join(text.split()))


def printable(path: object) -> str:
    """The name of a file as it is, but without control characters or bytes that are no text."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))
