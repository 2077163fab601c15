"""`refsam weights`, through the console's own entrance."""

import json
from pathlib import Path

import numpy as np
import pytest
from standin import TINY, standin_weights
from torch_files import torch_zip

from refsam import checkpoint, cli, weights_store


@pytest.fixture
def pt(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(torch_zip(standin_weights(TINY)))
    return str(path)


@pytest.fixture
def native(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, standin_weights(TINY), TINY, {"licence": "CC0-1.0", "scores": '{"iou": 0.5}'})
    return str(path)


def succeed(capsys, *tokens):
    """Stdout of a command that exits with 0 and says nothing on stderr."""
    assert cli.main(["weights", *tokens]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def fail(capsys, code, *tokens):
    """The one line on stderr of a command that exits with `code`."""
    assert cli.main(["weights", *tokens]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("refsam: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.core
def test_convert(capsys, pt, tmp_path):
    target = tmp_path / "b.safetensors"
    assert "285 tensors, float32, sha256" in succeed(capsys, "convert", pt, str(target))
    np.testing.assert_array_equal(
        *[found["mask_decoder.iou_token.weight"] for found in (checkpoint.read(target), standin_weights(TINY))]
    )
    half = tmp_path / "c.safetensors"
    document = json.loads(succeed(capsys, "convert", str(target), str(half), "--dtype", "float16", "--json"))
    assert document["tensors"] == 285
    assert document["sha256"] == checkpoint.load(half).sha256
    assert half.stat().st_size < 0.6 * target.stat().st_size


def test_convert_leaves_nothing_half_written(capsys, tmp_path):
    (tmp_path / "bad.pt").write_bytes(torch_zip(standin_weights(TINY))[:-500])
    (tmp_path / "old.safetensors").write_bytes(b"old")
    fail(capsys, 2, "convert", str(tmp_path / "bad.pt"), str(tmp_path / "old.safetensors"))
    assert (tmp_path / "old.safetensors").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def test_convert_replaces_a_link_and_not_what_it_leads_to(capsys, native, tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "victim")
    succeed(capsys, "convert", native, str(tmp_path / "link.safetensors"))
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert checkpoint.load(tmp_path / "link.safetensors").config == TINY


def test_convert_does_not_replace_its_source(capsys, native):
    before = Path(native).read_bytes()
    assert "is an input; it is not overwritten" in fail(capsys, 2, "convert", native, native, "--dtype", "float16")
    assert Path(native).read_bytes() == before


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no/where/a", "there is no folder"),
        (".", "it is a folder"),
        ("new.pt", "new.pt: its name has to end in .safetensors"),
        ("new", "new: its name has to end in .safetensors"),
    ],
)
def test_convert_to_nowhere(capsys, native, tmp_path, target, reason):
    assert reason in fail(capsys, 2, "convert", native, str(tmp_path / target))


@pytest.mark.parametrize(("target", "reason"), [("/dev/fd/1", "the answer is printed there"), ("/dev/null", "it is no file")])
def test_convert_to_what_cannot_be_read_again(capsys, native, target, reason):
    assert f"cannot write {target}: {reason}" in fail(capsys, 2, "convert", native, target)


@pytest.mark.core
def test_verify(capsys, native):
    assert "ok, a complete MobileSAM checkpoint" in succeed(capsys, "verify", native)
    document = json.loads(succeed(capsys, "verify", native, "--json"))
    assert (document["ok"], document["intact"], document["name"]) == (True, True, None)


def test_verify_finds_a_difference(capsys, native, tmp_path):
    raw = bytearray(weights_store.Path(native).read_bytes())
    raw[-1] ^= 1
    (tmp_path / "flipped").write_bytes(raw)
    for tokens in (["verify", str(tmp_path / "flipped")], ["verify", native, "--expect", "mobile_sam"]):
        assert cli.main(["weights", *tokens]) == 1
        assert "DIFFERENT" in capsys.readouterr().out
        assert cli.main(["weights", *tokens, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["ok"] is False
    assert cli.main(["weights", "verify", native, "--expect", "mobile-sam"]) == 2  # a slip is no difference
    assert "--expect mobile-sam: there are no pinned weights of this name; known: mobile_sam" in capsys.readouterr().err


def pin(monkeypatch, **hashes):
    source = weights_store.Source("m.pt", 1, **{"sha256": "0" * 64, **hashes}, urls=(), licence="", origin="")
    monkeypatch.setattr(weights_store, "sources", lambda: {"mobile_sam": source})


def verified(capsys, path, *tokens):
    """(exit code, the line, the JSON document) of `verify`."""
    code = cli.main(["weights", "verify", str(path), *tokens])
    shown = capsys.readouterr().out
    assert cli.main(["weights", "verify", str(path), *tokens, "--json"]) == code
    return code, shown, json.loads(capsys.readouterr().out)


@pytest.mark.core
def test_what_a_file_says_of_itself_proves_nothing(capsys, monkeypatch, tmp_path):
    """Random weights with the pinned hash in their metadata are not mobile_sam, whole though they are."""
    pin(monkeypatch)
    path = tmp_path / "forged.safetensors"
    checkpoint.save(path, standin_weights(TINY), TINY, {"source_sha256": "0" * 64})
    code, shown, document = verified(capsys, path)
    assert code == 0
    assert "it says it was converted from mobile_sam); its tensors have the hash they were written with" in shown
    assert "this is mobile_sam" not in shown
    assert (document["name"], document["says_converted_from"], document["intact"]) == (None, "mobile_sam", True)
    code, shown, document = verified(capsys, path, "--expect", "mobile_sam")
    assert (code, document["ok"]) == (1, False)
    assert "DIFFERENT" in shown
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    code, _, document = verified(capsys, path)
    assert (code, document["intact"]) == (1, False)


def test_a_pinned_hash_of_the_file_or_of_its_tensors_proves_it(capsys, monkeypatch, pt, native, tmp_path):
    weights_store.convert(pt, tmp_path / "b.safetensors")
    expected = ("--expect", "mobile_sam")
    pin(monkeypatch, sha256=checkpoint.load(pt).sha256)
    assert [verified(capsys, path, *expected)[0] for path in (pt, tmp_path / "b.safetensors")] == [0, 1]
    assert "ok, this is mobile_sam" in verified(capsys, pt)[1]
    pin(monkeypatch, tensors_sha256=checkpoint.tensors_sha256(standin_weights(TINY)))
    assert [verified(capsys, path, *expected)[0] for path in (pt, tmp_path / "b.safetensors")] == [0, 0]
    # The same tensors with a config that no shape tells: another model.
    assert verified(capsys, native, *expected)[0] == 1


HOSTILE = "\x1b]0;title\x07\x1b[2J\nfake: ok\u202e"


def test_a_stranger_s_metadata_stay_text(capsys, tmp_path):
    """ESC and OSC sequences would write the title, clear the screen, or more."""
    path = tmp_path / "a.safetensors"
    texts = {HOSTILE: "a", "b": HOSTILE, "c": json.dumps({HOSTILE: {"d": HOSTILE}}), "deep": '{"a":' * 900 + "1" + "}" * 900}
    checkpoint.save(path, standin_weights(TINY), TINY, texts)
    shown = succeed(capsys, "info", str(path))
    assert all(line.isprintable() for line in shown.splitlines())
    assert "\nfake" not in shown
    assert shown.count("\\x1b]0;title") == 4
    assert json.loads(succeed(capsys, "info", str(path), "--json"))["metadata"]["b"] == HOSTILE


def test_verify_refuses_what_it_cannot_open(capsys, tmp_path):
    (tmp_path / "page.pt").write_bytes(b"<!doctype html>")
    assert "web page" in fail(capsys, 2, "verify", str(tmp_path / "page.pt"))


@pytest.mark.core
def test_info(capsys, native):
    shown = succeed(capsys, "info", native)
    assert all(word in shown for word in ("CC0-1.0", "285", "embed_dims", "(8, 16, 16, 320)", "iou"))
    document = json.loads(succeed(capsys, "info", native, "--json"))
    assert document["tensors"]["mask_decoder.iou_token.weight"] == [1, 32]
    assert document["parameters"] == sum(array.size for array in standin_weights(TINY).values())
    assert document["config"]["image_size"] == 64
    assert document["metadata"]["scores"] == {"iou": 0.5}
    assert document["metadata"]["licence"] == "CC0-1.0"


def test_info_of_demo_names_its_card(capsys, native, monkeypatch, tmp_path):
    (tmp_path / "CARD.md").write_text("card")
    places = {"demo.safetensors": tmp_path / "a.safetensors", "CARD.md": tmp_path / "CARD.md"}
    monkeypatch.setattr(weights_store.resources, "path", lambda folder, name: places[name])
    document = json.loads(succeed(capsys, "info", "demo", "--json"))
    assert (document["name"], document["card"]) == ("demo", str(tmp_path / "CARD.md"))
    assert document["metadata"]["scores"] == {"iou": 0.5}


def test_what_is_not_downloaded_says_how(capsys):
    for tokens in (["info"], ["verify", "mobile_sam"]):
        assert "refsam weights fetch mobile_sam" in fail(capsys, 2, *tokens)


def test_fetch_from_nobody(capsys):
    assert "refused" in fail(capsys, 2, "fetch", "--mirror", "http://127.0.0.1:1")
    assert "known: mobile_sam" in fail(capsys, 2, "fetch", "sam_vit_h")


def test_fetch_prints_where_the_weights_are(capsys, monkeypatch, native):
    monkeypatch.setattr(weights_store, "fetch", lambda name, **how: weights_store.Path(native))
    assert succeed(capsys, "fetch").strip() == native
    document = json.loads(succeed(capsys, "fetch", "mobile_sam", "--json"))
    assert (document["name"], document["path"]) == ("mobile_sam", native)
