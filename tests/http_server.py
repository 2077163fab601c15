"""A web server on this machine that misbehaves in every way that servers do."""

import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import safetensors.numpy
from standin import TINY, standin_weights


@functools.cache
def served() -> bytes:
    """What the server has: the content decides what a file is, and this format is the quicker to read."""
    return safetensors.numpy.save(standin_weights(TINY), {"config": TINY.to_json()})


@dataclass
class Server:
    """A local HTTP server that answers request n with behaviours[n], the last of them for ever."""

    behaviours: list[Callable] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler) -> None:
        self.requests.append((handler.path, handler.headers.get("Range")))
        self.behaviours[min(len(self.requests), len(self.behaviours)) - 1](handler)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server on a free port of this machine."""
    found = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            found.answer(self)
            self.close_connection = True

        def log_message(self, *args):
            """Nothing on stderr."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found.url = f"http://127.0.0.1:{running.server_port}/mobile_sam.pt"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        running.shutdown()
        thread.join()


def reply(handler, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler) -> None:
    """Honours Range, as a good server does."""
    body, wanted = served(), handler.headers.get("Range")
    if wanted is None:
        return reply(handler, body)
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    return reply(handler, body[start:], 206, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")


def ignores_range(handler) -> None:
    reply(handler, served())


def cut(handler) -> None:
    """Promises everything and hangs up after a third of what is missing."""
    wanted = handler.headers.get("Range")
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
    body = served()[start:]
    headers = {"Content_Range": f"bytes {start}-{len(served()) - 1}/{len(served())}"} if wanted else {}
    reply(handler, body[: len(body) // 3], 206 if wanted else 200, length=len(body), **headers)


def stalls(handler) -> None:
    """Sends a part and then nothing more, for longer than anyone waits."""
    reply(handler, served()[:1000], length=len(served()))
    time.sleep(0.6)


def slow(handler) -> None:
    """Sends little by little, never pausing for longer than the timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(served())))
    handler.end_headers()
    step = len(served()) // 8 + 1
    for start in range(0, len(served()), step):
        handler.wfile.write(served()[start : start + step])
        handler.wfile.flush()
        time.sleep(0.05)


def wrong(handler) -> None:
    reply(handler, bytes(len(served())))


def oversize(handler) -> None:
    """No length, and a body without an end in sight."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(50):
            handler.wfile.write(served())
    except ConnectionError:
        return


def web_page(handler) -> None:
    reply(handler, b"<html>please log in</html>", Content_Type="text/html")


def missing(handler) -> None:
    reply(handler, b"no", 404)


def overloaded(handler) -> None:
    reply(handler, b"later", 503)


def redirect(handler) -> None:
    reply(handler, b"", 302, Location="/elsewhere/mobile_sam.pt")
