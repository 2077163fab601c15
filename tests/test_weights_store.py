"""Downloading against a server on this machine that misbehaves in every way that servers do; the cache; conversion."""

import dataclasses
import functools
import hashlib
import threading

import numpy as np
import pytest
from http_server import (
    cut,
    ignores_range,
    missing,
    overloaded,
    oversize,
    redirect,
    reply,
    running_server,
    served,
    slow,
    stalls,
    web_page,
    whole,
    wrong,
)
from standin import TINY, standin_weights
from torch_files import torch_zip

from refsam import checkpoint, download, weights_store
from refsam.errors import CheckpointError, InputError


@functools.cache
def pt_file() -> bytes:
    return torch_zip(standin_weights(TINY))


@pytest.fixture
def server():
    with running_server() as running:
        yield running


@pytest.fixture(autouse=True)
def pinned(server, monkeypatch, tmp_path):
    """The stand-in file is pinned as upstream's is; attempts follow each other at once; no proxy of this machine."""
    source = weights_store.Source(
        "mobile_sam.pt", len(served()), hashlib.sha256(served()).hexdigest(), (server.url,), "Apache-2.0", "nowhere"
    )
    monkeypatch.setattr(weights_store, "sources", lambda: {"mobile_sam": source})
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path / "cache"))
    return source


def cached(tmp_path) -> list[str]:
    """What is in the cache, but for the lock."""
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")


@pytest.mark.core
def test_fetch_downloads_checks_and_converts(server, tmp_path, pinned):
    server.behaviours = [whole]
    steps = []
    assert weights_store.find() is None
    path = weights_store.fetch(progress=lambda done, total: steps.append((done, total)))
    assert path == weights_store.find() == tmp_path / "cache" / f"mobile_sam-{pinned.sha256[:12]}.safetensors"
    assert cached(tmp_path) == [path.name]
    opened = checkpoint.load(path)
    np.testing.assert_array_equal(*[found["mask_decoder.iou_token.weight"] for found in (opened.tensors, standin_weights(TINY))])
    expected = {"licence": "Apache-2.0", "source_url": server.url, "source_sha256": pinned.sha256, "origin": "nowhere"}
    assert expected.items() <= opened.metadata.items()
    assert steps[-1] == (len(served()), len(served()))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    verified = weights_store.verify(path)
    assert (verified.name, verified.says, verified.intact) == (None, "mobile_sam", True)


def test_a_second_fetch_asks_nobody(server):
    server.behaviours = [whole]
    assert weights_store.fetch() == weights_store.fetch()
    assert len(server.requests) == 1
    weights_store.fetch(force=True)
    assert len(server.requests) == 2


@pytest.mark.parametrize("then", [whole, ignores_range], ids=["resumes", "starts anew"])
def test_a_cut_connection_is_taken_up_again(server, then):
    server.behaviours = [cut, then]
    assert weights_store.fetch().is_file()
    assert server.requests == [("/mobile_sam.pt", None), ("/mobile_sam.pt", f"bytes={len(served()) // 3}-")]


def test_a_download_goes_on_where_an_earlier_run_stopped(server, tmp_path):
    server.behaviours = [cut]
    with pytest.raises(InputError, match=r"ended \d+ bytes too early.*by hand"):
        weights_store.fetch()
    (partial,) = cached(tmp_path)
    kept = (tmp_path / "cache" / partial).read_bytes()
    assert served().startswith(kept)
    assert len(server.requests) == download.ATTEMPTS
    server.behaviours = [whole]
    weights_store.fetch()
    assert server.requests[-1][1] == f"bytes={len(kept)}-"


def test_a_finished_part_is_not_asked_for_again(server, tmp_path, pinned):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"mobile_sam.pt-{pinned.sha256[:12]}.part").write_bytes(served())
    assert weights_store.fetch().is_file()
    assert server.requests == []


def test_an_overlong_part_is_thrown_away(server, tmp_path, pinned):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"mobile_sam.pt-{pinned.sha256[:12]}.part").write_bytes(served() + b"more")
    server.behaviours = [whole]
    assert weights_store.fetch().is_file()
    assert server.requests == [("/mobile_sam.pt", None)]


def test_a_slow_server_is_waited_for(server):
    server.behaviours = [slow]
    assert weights_store.fetch(timeout=5.0).is_file()


def test_a_server_that_falls_silent_is_left_and_asked_for_the_rest(server):
    server.behaviours = [stalls, whole]
    assert weights_store.fetch(timeout=0.3).is_file()
    assert server.requests[1][1] == "bytes=1000-"


def test_an_overloaded_server_is_asked_again(server):
    server.behaviours = [overloaded, overloaded, whole]
    assert weights_store.fetch().is_file()
    assert len(server.requests) == 3


def test_a_redirect_is_followed(server):
    server.behaviours = [redirect, whole]
    assert weights_store.fetch().is_file()
    assert server.requests[1][0] == "/elsewhere/mobile_sam.pt"


@pytest.mark.core
def test_a_wrong_hash_leaves_nothing_and_names_both(server, tmp_path, pinned):
    server.behaviours = [wrong]
    with pytest.raises(InputError) as caught:
        weights_store.fetch()
    assert pinned.sha256 in str(caught.value)
    assert hashlib.sha256(bytes(len(served()))).hexdigest() in str(caught.value)
    assert cached(tmp_path) == []
    assert weights_store.find() is None


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (missing, "answers 404"),
        (web_page, r"offers 26 bytes of type text/html, the file has \d+"),
        (oversize, "sends more than the file has"),
    ],
)
def test_a_server_without_the_file_is_asked_once(server, tmp_path, behaviour, message):
    server.behaviours = [behaviour]
    with pytest.raises(InputError, match=f"{server.url}: .*{message}.*REFSAM_MIRROR"):
        weights_store.fetch()
    assert len(server.requests) == 1
    assert weights_store.find() is None
    assert all((tmp_path / "cache" / name).stat().st_size <= len(served()) for name in cached(tmp_path))


def test_the_next_address_is_tried(server, monkeypatch, pinned):
    twice = weights_store.Source(**{**vars(pinned), "urls": (server.url + "?1", server.url + "?2")})
    monkeypatch.setattr(weights_store, "sources", lambda: {"mobile_sam": twice})
    server.behaviours = [missing, whole]
    assert checkpoint.load(weights_store.fetch()).metadata["source_url"] == server.url + "?2"


@pytest.mark.parametrize("by", ["argument", "variable"])
@pytest.mark.parametrize("end", ["/mirror", "/mirror/", "/mirror/mobile_sam.pt"])
def test_a_mirror_takes_the_place_of_all_addresses(server, monkeypatch, by, end):
    server.behaviours = [whole]
    address = server.url.removesuffix("/mobile_sam.pt") + end
    if by == "variable":
        monkeypatch.setenv("REFSAM_MIRROR", address)
    weights_store.fetch(mirror=address if by == "argument" else None)
    assert server.requests == [("/mirror/mobile_sam.pt", None)]


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://host", "folder"])
def test_a_mirror_has_to_be_http(mirror):
    with pytest.raises(InputError, match="http://"):
        weights_store.fetch(mirror=mirror)


def test_nobody_there_is_said_at_once(server):
    with pytest.raises(InputError, match="refused"):
        weights_store.fetch(mirror="http://127.0.0.1:1")


def test_two_at_once_download_once(server):
    server.behaviours = [slow]
    found = []
    threads = [threading.Thread(target=lambda: found.append(weights_store.fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(server.requests) == 1


def test_what_is_no_checkpoint_never_becomes_visible(server, monkeypatch, pinned):
    """A pinned file that is not MobileSAM would be a mistake of ours, and still no weights."""
    junk = b"x" * 1000
    source = weights_store.Source("mobile_sam.pt", 1000, hashlib.sha256(junk).hexdigest(), (server.url,), "", "")
    monkeypatch.setattr(weights_store, "sources", lambda: {"mobile_sam": source})
    server.behaviours = [lambda handler: reply(handler, junk)]
    with pytest.raises(CheckpointError, match="no known format"):
        weights_store.fetch()
    assert weights_store.find() is None


def test_an_unknown_name_is_refused():
    for call in (weights_store.find, weights_store.fetch):
        with pytest.raises(InputError, match=r"no weights '../../etc' to download; known: mobile_sam"):
            call("../../etc")


def test_a_cache_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot make the cache folder .*set REFSAM_CACHE"):
        weights_store.fetch()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"REFSAM_CACHE": "/r"}, "/r"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/refsam"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/u/.cache/refsam"),
        ("linux", {}, "/home/u/.cache/refsam"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/u/Library/Caches/refsam"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/refsam/Cache"),
        ("win32", {}, "/home/u/AppData/Local/refsam/Cache"),
    ],
)
def test_the_cache_is_where_the_platform_has_caches(monkeypatch, platform, variables, expected):
    for name in ("REFSAM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/u", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(weights_store.sys, "platform", platform)
    assert weights_store.cache_folder().as_posix() == expected


def test_a_cache_in_the_home_of_nobody_is_an_input_error(monkeypatch):
    monkeypatch.setenv("REFSAM_CACHE", "~nosuch/x")
    with pytest.raises(InputError, match="REFSAM_CACHE is '~nosuch/x', but there is no such home folder; set it to a folder"):
        weights_store.cache_folder()


def test_convert_keeps_values_and_origin(tmp_path):
    source = tmp_path / "a.pt"
    source.write_bytes(pt_file())
    weights_store.convert(source, tmp_path / "a.safetensors")
    weights_store.convert(tmp_path / "a.safetensors", tmp_path / "half.safetensors", "float16")
    full, half = (checkpoint.load(tmp_path / name) for name in ("a.safetensors", "half.safetensors"))
    for name, array in standin_weights(TINY).items():
        np.testing.assert_array_equal(full.tensors[name], array)
        np.testing.assert_array_equal(half.tensors[name], array.astype("f2").astype("f4"))
    assert full.metadata["source_sha256"] == half.metadata["source_sha256"] == hashlib.sha256(pt_file()).hexdigest()
    assert half.config == full.config


def test_verify_knows_the_pinned_file_and_a_strange_one(tmp_path):
    (tmp_path / "a.pt").write_bytes(served())
    (tmp_path / "b.pt").write_bytes(pt_file())
    found = [weights_store.verify(tmp_path / name) for name in ("a.pt", "b.pt")]
    assert [(each.name, each.says, each.intact) for each in found] == [("mobile_sam", None, None), (None, None, None)]


@pytest.mark.parametrize(
    "change",
    [{"prompt_embed_dim": 8, "decoder_num_heads": 2}, {"window_sizes": (7, 64, 4, 3), "num_heads": (1, 4, 2, 10)}],
    ids=str,
)
def test_verify_opens_what_mobile_sam_s_heads_and_size_do_not_fit(tmp_path, change):
    """Shapes say nothing of either, and what is taken for them may make no config at all."""
    config, path = dataclasses.replace(TINY, **change), tmp_path / "a.safetensors"
    checkpoint.save(path, standin_weights(config), config)
    found = weights_store.verify(path)
    assert (found.opened.config, found.name, found.intact) == (config, None, True)


def test_verify_sees_a_single_changed_bit(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, standin_weights(TINY), TINY)
    assert weights_store.verify(path).intact is True
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 1
    path.write_bytes(raw)
    assert weights_store.verify(path).intact is False


def test_locate(tmp_path, server):
    with pytest.raises(CheckpointError, match="refsam weights fetch mobile_sam"):
        weights_store.locate("mobile_sam")
    server.behaviours = [whole]
    assert weights_store.locate("some/path") == weights_store.Path("some/path")
    assert weights_store.fetch() == weights_store.locate("mobile_sam")
