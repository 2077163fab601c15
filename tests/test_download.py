"""A wrong hash, against a server on this machine; how broken connections are taken up is in test_weights_store.py."""

import hashlib

import pytest
from http_server import missing, running_server, served, whole, wrong

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
