"""`refsam weights`: download, convert, check and describe weights files."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from refsam import checkpoint, resources, weights_store
from refsam.checkpoint import Checkpoint
from refsam.cli.common import DIFFERENCE, OK, JsonFlag, one_line, print_json, progress
from refsam.cli.results import check_tensors
from refsam.errors import InputError
from refsam.files import is_stream

MAX_TABLES = 100
"""Of a metadata text: more are shown as they are, since tables within tables could be too deep to print."""

app = App(name="weights", help="Download, convert, check and describe weights files.")

Mirror = Annotated[str | None, Parameter(help="Address of a folder that has the same file (default: $REFSAM_MIRROR).")]
Force = Annotated[bool, Parameter(negative=(), help="Download it although it is in the cache already.")]
Dtype = Annotated[Literal["float32", "float16"], Parameter(help="float16 takes half the space and rounds each value to 11 bits.")]
Base = Annotated[
    str | None, Parameter(help="For packages: where the tensors of mask prompts and boxes come from, e.g. mobile_sam.")
]
Expect = Annotated[
    str | None, Parameter(help="Exit with 1 where nothing proves that the file is these pinned weights, e.g. mobile_sam.")
]


@app.command
def fetch(name: str = "mobile_sam", /, *, mirror: Mirror = None, force: Force = False, as_json: JsonFlag = False) -> int:
    """Download the weights NAME (40 MB, Apache-2.0), check their hash, convert them to .safetensors in the cache."""
    with progress(name) as advance:
        path = weights_store.fetch(name, mirror=mirror, progress=advance, force=force)
    if as_json:
        print_json({"name": name, **_summary(checkpoint.load(path))})
    else:
        print(path)
    return OK


@app.command
def convert(source: Path, target: Path, /, *, dtype: Dtype = "float32", base: Base = None, as_json: JsonFlag = False) -> int:
    """Write the weights SOURCE (.pt, .safetensors, or a folder of Core ML packages) as .safetensors to TARGET, another file."""
    check_tensors(target, [source])
    if is_stream(target):
        raise InputError(f"cannot write {target}: it is no file, and what is written is read again; name a file")
    if source.is_dir():
        notes = _from_packages(source, base, target, dtype)
    elif base is not None:
        raise InputError(f"--base completes Core ML packages, and {source} is no folder of them")
    else:
        weights_store.convert(source, target, dtype)
        notes = {}
    written = checkpoint.load(target)
    if as_json:
        print_json({**_summary(written), **notes})
    else:
        print(f"{target}: {len(written.tensors)} tensors, {dtype}, sha256 {written.sha256}")
        if notes:
            print(f"of the base {base}: {', '.join(notes['tensors_of_base'])}")
            print("packages and weights agree (relative L2): " + ", ".join(f"{k} {v:.1e}" for k, v in notes["agreement"].items()))
    return OK


def _from_packages(folder: Path, base: str | None, target: Path, dtype: str) -> dict[str, Any]:
    """Convert; what to tell about it."""
    from refsam.coreml import weights_file

    if not weights_file.is_package_set(folder):
        raise InputError(f"{folder} is a folder without ImageEncoder, PromptEncoder and MaskDecoder.mlpackage")
    if base is None:
        raise InputError(
            "Core ML packages have no tensors for mask prompts and boxes (prompt_encoder.mask_downscaling.*, point_embeddings.2"
            " and .3); name a checkpoint of the same architecture that they are taken from, e.g. --base mobile_sam"
        )
    recovered, distances = weights_file.convert(folder, checkpoint.load(weights_store.locate(base)), target, dtype)
    return {"tensors_of_base": list(recovered.from_base), "agreement": distances}


@app.command
def verify(name_or_path: str, /, *, expect: Expect = None, as_json: JsonFlag = False) -> int:
    """Check that a weights file is whole and finite, and which pinned weights it is."""
    known = weights_store.sources()
    if expect is not None and expect not in known:
        raise InputError(f"--expect {expect}: there are no pinned weights of this name; known: {', '.join(known)}")
    found = weights_store.verify(weights_store.locate(name_or_path))
    good = found.intact is not False and expect in (None, found.name)
    if as_json:
        print_json(
            {"ok": good, "name": found.name, "says_converted_from": found.says, "intact": found.intact, **_summary(found.opened)}
        )
    else:
        print(f"{found.opened.path}: {_verdict(found, expect)}")
    return OK if good else DIFFERENCE


def _verdict(found: weights_store.Verification, expect: str | None) -> str:
    if found.intact is False:
        return "DIFFERENT: its tensors are not those it was written with; get or convert it again"
    if expect not in (None, found.name):
        return f"DIFFERENT: {_known(found)}; only what has the pinned hash is {expect} (sha256 here: {found.opened.sha256})"
    return f"ok, {_known(found)}" + ("" if found.intact is None else "; its tensors have the hash they were written with")


def _known(found: weights_store.Verification) -> str:
    if found.name:
        return f"this is {found.name}"
    origin = f"it says it was converted from {found.says}" if found.says else "of no pinned name"
    return f"a complete MobileSAM checkpoint ({origin})"


@app.command
def info(name_or_path: str = "mobile_sam", /, *, as_json: JsonFlag = False) -> int:
    """Describe weights: architecture, tensors, hash, licence, origin; for `demo` also its scores and where its card is."""
    opened = checkpoint.load(weights_store.locate(name_or_path))
    document = {"name": name_or_path, **_summary(opened), "metadata": _unfolded(opened), "config": vars(opened.config)}
    if name_or_path == "demo":
        document["card"] = resources.path("weights", "CARD.md")
    if as_json:
        print_json({**document, "tensors": {name: tensor.shape for name, tensor in opened.tensors.items()}})
    else:
        _print_table(document)
    return OK


def _summary(opened: Checkpoint) -> dict[str, Any]:
    return {
        "path": opened.path,
        "format": opened.format,
        "sha256": opened.sha256,
        "tensors": len(opened.tensors),
        "parameters": sum(math.prod(tensor.shape) for tensor in opened.tensors.values()),
    }


def _unfolded(opened: Checkpoint) -> dict[str, Any]:
    """The file's own texts; those that are JSON tables (such as `scores`) as tables. The config is shown by itself."""
    return {key: _table(text) for key, text in opened.metadata.items() if key != "config"}


def _table(text: str) -> Any:
    if text.count("{") > MAX_TABLES:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _print_table(document: dict[str, Any], indent: str = "") -> None:
    """Keys and values may be a stranger's: no control character of theirs reaches the terminal."""
    rows = [(one_line(key), value) for key, value in document.items()]
    width = max((len(key) for key, _ in rows), default=0)
    for key, value in rows:
        if isinstance(value, dict):
            print(f"{indent}{key}")
            _print_table(value, indent + "  ")
        else:
            print(f"{indent}{key:<{width}}  {one_line(str(value))}")
