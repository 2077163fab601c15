"""A wrong hash, against a server on this machine; how broken connections are taken up is in test_weights_store.py."""

import errno
import hashlib
import re
import ssl
import urllib.request

import pytest
from http_server import missing, running_server, served, whole, wrong

from refsam import download as downloading
from refsam.download import download
from refsam.errors import InputError

SHA256 = hashlib.sha256(served()).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running_server() as running:
        yield running


@pytest.fixture
def obtain(server, tmp_path):
    """Download from two addresses of the server into file.part, which may be there already: the address that worked."""

    def call(already: bytes | None = None) -> str:
        partial = tmp_path / "file.part"
        if already is not None:
            partial.write_bytes(already)
        url = download([server.url + "?1", server.url + "?2"], partial, len(served()), SHA256)
        assert partial.read_bytes() == served()
        return url.removeprefix(server.url)

    return call


@pytest.mark.core
def test_after_a_wrong_hash_the_next_address_is_asked_for_all_of_it(server, obtain):
    server.behaviours = [wrong, whole]
    assert obtain() == "?2"
    assert [wanted for _, wanted in server.requests] == [None, None]


class BreaksOff:
    """A response whose body ends in an error of the network after its first 1000 bytes."""

    def __init__(self, response, error):
        self.response, self.error, self.begun = response, error, False

    def __getattr__(self, name):
        return getattr(self.response, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.response.close()

    def read1(self, size):
        if self.begun:
            raise self.error
        self.begun = True
        return self.response.read1(min(size, 1000))


def breaking_off(monkeypatch, error, times):
    """The first `times` responses break off in `error`."""
    real, left = urllib.request.urlopen, [None] * times

    def urlopen(*arguments, **how):
        response = real(*arguments, **how)
        return BreaksOff(response, left.pop() or error) if left else response

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(downloading, "PAUSE", 0)


BROKEN = [
    OSError(errno.EHOSTUNREACH, "No route to host"), OSError(errno.ENETUNREACH, "Network is unreachable"),
    ssl.SSLError(1, "decryption failed or bad record mac"), ConnectionResetError(errno.ECONNRESET, "reset"),
]  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_a_network_that_fails_in_the_body_is_tried_again(server, obtain, monkeypatch, error):
    server.behaviours = [whole]
    breaking_off(monkeypatch, error, 1)
    assert obtain() == "?1"
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-"]


def test_a_network_that_fails_for_good_makes_the_next_address_be_asked(server, obtain, monkeypatch):
    server.behaviours = [whole]
    breaking_off(monkeypatch, BROKEN[0], downloading.ATTEMPTS)
    assert obtain() == "?2"


@pytest.mark.parametrize(
    "url", ["http://a..b/x", "http://127.0.0.1:abc/x", "http://127.0.0.1:99999999/x", "http://[::1/x", "http:///x", "nothing"]
)
def test_an_address_that_cannot_be_asked_is_said_at_once(monkeypatch, tmp_path, url):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading.time, "sleep", pytest.fail)
    with pytest.raises(InputError, match=f"the download failed \\({re.escape(url)}: .*set REFSAM_MIRROR"):
        download([url], tmp_path / "file.part", len(served()), SHA256)


def test_an_address_may_have_spaces_and_any_letters(server, tmp_path):
    server.behaviours = [whole]
    for number, name in enumerate(("a b/m.pt", "caf\xe9/m.pt", "a%20b/m.pt", "m.pt?q=\xe9 1&r=%C3%A9")):
        download([server.url.replace("mobile_sam.pt", name)], tmp_path / str(number), len(served()), SHA256)
    expected = ["/a%20b/m.pt", "/caf%C3%A9/m.pt", "/a%20b/m.pt", "/m.pt?q=%C3%A9%201&r=%C3%A9"]
    assert [path for path, _ in server.requests] == expected


def test_a_disk_that_fails_is_named_and_not_tried_again(server, tmp_path):
    server.behaviours = [whole]
    (tmp_path / "full.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"cannot write \S+full\.part: "):
        download([server.url], tmp_path / "full.part", len(served()), SHA256)
    assert len(server.requests) == 1


def test_what_is_wrong_with_each_address_is_told(server, obtain, tmp_path):
    server.behaviours = [wrong, missing]
    sent = hashlib.sha256(bytes(len(served()))).hexdigest()
    with pytest.raises(InputError, match=rf"\?1: what it sent has sha256 {sent}, not {SHA256}.*\?2: the server answers 404"):
        obtain()
    assert len(server.requests) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_spoilt_part_is_not_held_against_an_address(server, obtain):
    """Neither a finished one, for which nobody was asked, nor one whose rest was honest."""
    server.behaviours = [whole]
    assert obtain(bytes(len(served()))) == "?1"
    assert [wanted for _, wanted in server.requests] == [None]
    assert obtain(bytes(1000)) == "?1"
    assert [wanted for _, wanted in server.requests[1:]] == ["bytes=1000-", None]
