"""One file over HTTP: resumed, retried, bounded in size, and worth nothing until its hash is right."""

import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refsam.checkpoint import file_sha256
from refsam.errors import InputError
from refsam.files import named
from refsam.types import Progress

ATTEMPTS = 5
"""Tries at each address."""
PAUSE = 1.0
"""Seconds before the second try; twice as long before each further one."""
BLOCK = 1 << 16
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers after which another try may succeed."""

BY_HAND = "download it by hand and give its path, or set REFSAM_MIRROR"


class _Broken(Exception):
    """The connection failed in a way that another try may cure."""


class _Refused(Exception):
    """This address does not have the file."""


def download(
    urls: Sequence[str],
    partial: Path,
    size: int,
    sha256: str,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> str:
    """Fill `partial` from the first of `urls` that works and return that address; `partial` then has `size` and `sha256`.

    What `partial` has already is kept and the rest is asked for; where the hash is wrong then, `partial` is removed and all of
    it is asked for. Proxies are those of the environment (urllib).
    Raises InputError where no address works, with what is wrong with each.
    """
    failures = []
    for url in urls:
        try:
            _obtain(url, partial, size, sha256, progress or (lambda *_: None), timeout)
        except (_Broken, _Refused) as error:
            failures.append(f"{url}: {error}")
        else:
            return url
    raise InputError(f"the download failed ({'; '.join(failures)}); {BY_HAND}")


def _obtain(url: str, partial: Path, size: int, sha256: str, progress: Progress, timeout: float) -> None:
    """Fill `partial` and check it. Only what came from `url` as a whole is held against it."""
    while True:
        earlier = partial.exists()
        _fill(url, partial, size, progress, timeout)
        with partial.open("rb") as file:
            found = file_sha256(file)
        if found == sha256:
            return
        partial.unlink()
        if not earlier:
            raise _Refused(f"what it sent has sha256 {found}, not {sha256}; it was deleted")


def _fill(url: str, partial: Path, size: int, progress: Progress, timeout: float) -> None:
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _attempt(url, partial, size, progress, timeout)
        except _Broken:
            if attempt == ATTEMPTS - 1:
                raise
    return None


def _attempt(url: str, partial: Path, size: int, progress: Progress, timeout: float) -> None:
    """Ask for what is missing and append it; a server that ignores the range makes it start anew."""
    done = partial.stat().st_size if partial.exists() else 0
    if done > size:  # not ours: nothing here ever writes so much
        partial.unlink()
        done = 0
    if done == size:
        return
    headers = {"User-Agent": "refsam", "Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with _network():
        response = urllib.request.urlopen(urllib.request.Request(_quoted(url), headers=headers), timeout=timeout)
    with response:
        start = _start(response, done, size)
        with named(partial), partial.open("ab") as file:
            file.truncate(start)
            for block in _blocks(response, size - start):
                file.write(block)
                progress(file.tell(), size)


def _quoted(url: str) -> str:
    """With what an address cannot have as it is (spaces, letters beyond ASCII) quoted; what is quoted already stays.

    Raises ValueError where it is no address.
    """
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or parts.port == 0:  # where it is no number below 65536, `port` raises ValueError itself
        raise ValueError("it needs a host, and a port only from 1 to 65535")
    path, query = (urllib.parse.quote(part, safe="%/:?@!$&'()*+,;=~[]") for part in (parts.path, parts.query))
    return parts._replace(path=path, query=query).geturl()


def _start(response: Any, done: int, size: int) -> int:
    """From which byte on the server answers; raises where its file has another size."""
    ranged = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status == 206 and ranged and int(ranged[1]) == done and ranged[2] in ("*", str(size)):
        return done
    length = response.headers.get("Content-Length")
    if response.status != 200 or (length is not None and length != str(size)):
        kind = response.headers.get("Content-Type", "unknown")
        raise _Refused(f"the server offers {length} bytes of type {kind}, the file has {size}")
    return 0


def _blocks(response: Any, missing: int) -> Iterator[bytes]:
    """The body, which must not be longer than what is missing nor shorter."""
    while missing:
        with _network():
            block = response.read1(min(BLOCK, missing))  # what has arrived, so that a later silence loses none of it
        if not block:
            raise _Broken(f"the connection ended {missing} bytes too early")
        missing -= len(block)
        yield block
    with _network():
        rest = response.read(1)
    if rest:
        raise _Refused("the server sends more than the file has")


@contextmanager
def _network() -> Iterator[None]:
    """Sorts the errors of urllib into those worth another try and those not; for no block that touches the disk."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise (_Broken if error.code in TRANSIENT else _Refused)(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        final = isinstance(error.reason, ConnectionRefusedError | socket.gaierror | ssl.SSLError)
        raise (_Refused if final else _Broken)(str(error.reason)) from None
    except (ValueError, http.client.InvalidURL) as error:  # of the names of hosts: UnicodeError
        raise _Refused(f"this is no address that can be asked: {error}") from None
    except (http.client.HTTPException, OSError) as error:  # no route to the host, TLS that broke: in a body as they are
        raise _Broken(str(error) or type(error).__name__) from None
