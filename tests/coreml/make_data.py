"""Makes tests/coreml/data: needs what convert.py needs, and scikit-learn.  Run: python tests/coreml/make_data.py

packages.zip: the three parts for each target and precision, and the decoder with compressed weights. expected.npz: inputs, and
torch's results in float32 and float64. dense.json: hashes of the weights that coremltools makes of the compressed ones.
"""

import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import coremltools as ct  # noqa: E402
import coremltools.optimize.coreml as cto  # noqa: E402
import torch  # noqa: E402
from coreml.convert import convert, inputs, modules, run_torch  # noqa: E402
from coreml.packages import CONFIG, DATA, POINTS  # noqa: E402
from standin import standin_weights  # noqa: E402

PLAIN = [("iOS15", "fp16"), ("iOS15", "fp32"), ("iOS16", "fp16"), ("iOS17", "fp16"), ("iOS18", "fp16")]
SMALLEST = 64
"""Elements of a weight that is compressed."""


def compressions() -> dict[str, tuple[str, object]]:
    """Name -> (target, coremltools' configuration)."""
    palette, linear, prune = cto.OpPalettizerConfig, cto.OpLinearQuantizerConfig, cto.OpMagnitudePrunerConfig
    size = {"weight_threshold": SMALLEST}
    return {
        "lut4": ("iOS16", palette(mode="uniform", nbits=4, **size)),
        "lut6": ("iOS16", palette(mode="uniform", nbits=6, **size)),
        "int8": ("iOS16", linear(mode="linear_symmetric", dtype="int8", **size)),
        "uint8": ("iOS16", linear(mode="linear", dtype="uint8", **size)),
        "sparse": ("iOS16", prune(target_sparsity=0.5, **size)),
        "lut4-grouped": ("iOS18", palette(mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=8, **size)),
        "lut3": ("iOS18", palette(mode="uniform", nbits=3, **size)),
        "lut1": ("iOS18", palette(mode="uniform", nbits=1, **size)),
        "int4-block": ("iOS18", linear(mode="linear", dtype="int4", granularity="per_block", block_size=8, **size)),
        "int8-18": ("iOS18", linear(mode="linear", dtype="int8", **size)),
        "sparse-18": ("iOS18", prune(target_sparsity=0.5, **size)),
    }


def main() -> None:
    """Write all three files."""
    weights = standin_weights(CONFIG)
    single, double = modules(CONFIG, weights), modules(CONFIG, weights, torch.float64)
    with tempfile.TemporaryDirectory() as folder:
        for part, module in single.items():
            for target, precision in PLAIN:
                convert(part, module, CONFIG, target, precision).save(f"{folder}/{part}.{target}.{precision}.mlpackage")
        dense = compress(Path(folder))
        archive(Path(folder))
    (DATA / "dense.json").write_text(json.dumps(dense, indent=1, sort_keys=True) + "\n")
    found = {}
    for part in single:
        for points in POINTS:
            given = inputs(CONFIG, points)[part]
            found |= {f"{part}.{points}/inputs/{name}": x for name, x in given.items()}
            found |= {f"{part}.{points}/torch32/{name}": x for name, x in run_torch(part, single[part], given).items()}
            found |= {f"{part}.{points}/torch64/{name}": x for name, x in run_torch(part, double[part], given).items()}
    np.savez_compressed(DATA / "expected.npz", **found)


def compress(folder: Path) -> dict[str, dict[str, str]]:
    """Add compressed decoders; return, for each, its dense weights' hashes as coremltools sees them."""
    dense = {}
    for name, (target, config) in compressions().items():
        plain = ct.models.MLModel(str(folder / f"MaskDecoder.{target}.fp16.mlpackage"), skip_model_load=True)
        kind = {"OpPalettizerConfig": cto.palettize_weights, "OpLinearQuantizerConfig": cto.linear_quantize_weights}
        apply = kind.get(type(config).__name__, cto.prune_weights)
        small = apply(plain, cto.OptimizationConfig(global_config=config))
        small.save(str(folder / f"MaskDecoder.{name}.mlpackage"))
        dense[name] = hashes(cto.decompress_weights(small))
    return dense


def hashes(model: ct.models.MLModel) -> dict[str, str]:
    """Name of a weight -> sha256 of its float16 bytes. Only 32 hexadecimal digits: they find mistakes, not forgers."""
    from coremltools.converters.mil.frontend.milproto.load import load

    program = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir)
    constants = program.functions["main"].find_ops(op_type="const")
    arrays = {op.outputs[0].name: np.asarray(op.outputs[0].val) for op in constants}
    return {name: digest(array) for name, array in arrays.items() if array.dtype == np.float16 and array.size >= SMALLEST}


def digest(array: np.ndarray) -> str:
    """A hash of shape and bytes."""
    return hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


def archive(folder: Path) -> None:
    """All files, each content once, without dates."""
    index, contents = {}, {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        name = hashlib.sha256(data).hexdigest()[:16]
        index[path.relative_to(folder).as_posix()] = name
        contents[name] = data
    contents["index.json"] = json.dumps(index, indent=1).encode()
    with zipfile.ZipFile(DATA / "packages.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, data in sorted(contents.items()):
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
