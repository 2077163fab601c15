"""A Core ML package set as a port: refsam's interpreter runs it anywhere, Core ML itself on a Mac."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from refsam import transforms
from refsam.coreml import mil
from refsam.coreml.app_parts import PackageParts, Runnable
from refsam.coreml.check_native import NativeProgram, Units
from refsam.coreml.constants import IMAGE_PE, read_image_pe
from refsam.coreml.export import PACKAGES, Part
from refsam.coreml.types import Operation, TensorType
from refsam.errors import InputError
from refsam.model.prompt_encoder import PADDING
from refsam.model.sam import MobileSam
from refsam.types import Array, Float
from refsam.verify.ports.coreml_inside import Inside
from refsam.verify.ports.port import COORDINATES, PREPROCESSED, arrays, check_points_only, chosen_masks
from refsam.verify.reference import Case

COMPRESSED = (
    "weights: {} tensors of the packages, {} the first, are compressed in a way that no precision stands for; hold the packages"
    " against the weights that `refsam weights convert` reads in them"
)
OWN_PE = "prompt_encoder.pe_layer: the reference's; the packages take it as an input"


class CoreMLPort:
    """Image encoder, prompt encoder and mask decoder. They take points only: no box, no mask prompt.

    Args:
        programs: part -> program, what describes it.
        runs: part -> what runs it; the programs themselves, or Core ML.
        model: the reference's weights.
        image_pe: the app's positional encoding; None: the reference's.
        precision: what they compute in; None: what `declared` reads in them.
        inside: whether stages inside the packages are shown too, which has to be found out once for each set of packages.
    """

    def __init__(
        self,
        programs: Mapping[Part, mil.Program],
        runs: Mapping[Part, Runnable],
        model: MobileSam,
        image_pe: Float[Array, "1 D E E"] | None = None,
        precision: str | None = None,
        inside: bool = False,
    ) -> None:
        self.model = model
        self.declared, self.precision = precision, precision or declared(programs)
        own = MobileSam(model.scope.weights, model.config, dtype="float32").image_pe if image_pe is None else image_pe
        self.image_pe = image_pe
        self.parts = PackageParts(runs, own)
        if self.parts.image_size != model.config.image_size:
            wanted = model.config.image_size
            raise InputError(f"the image encoder takes pictures of {self.parts.image_size}; with these weights it is {wanted}")
        self.given = ("input_image",)
        self.inside = Inside(programs, model, own) if inside else None
        how = "interpreted" if all(runs[part] is programs[part] for part in PACKAGES) else "Core ML"
        self.name = f"{', '.join(Path(programs[part].path).name for part in PACKAGES)} ({how})"
        about = compression_notes(programs) if precision is None else ()
        self.notes = (PREPROCESSED, COORDINATES, *([OWN_PE] if image_pe is None else []), *about)

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:
        """Run the three. Raises InputError for a box or a mask, and what the packages raise."""
        given = transforms.preprocess(case.image, self.model.config.image_size)
        coords, labels = self._points(case)
        found: dict[str, Array] = {} if self.image_pe is None else {"prompt_encoder.pe_layer": self.image_pe}
        if self.inside is not None:
            found |= self.inside.run(given, coords, labels, stages)
        embedding, (sparse, dense) = self.parts.encode(given), self.parts.embed(coords, labels)
        masks, scores = self.parts.decode(embedding, sparse, dense)
        chosen = chosen_masks(case)
        found |= {
            "input_image": given,
            "image_encoder": embedding,
            "prompt_encoder.sparse_prompt_embeddings": sparse,
            "prompt_encoder.dense_prompt_embeddings": dense,
            "low_res_masks": masks[:, chosen],
            "iou_predictions": scores[:, chosen],
        }
        return arrays(found)

    def _points(self, case: Case) -> tuple[Float[Array, "1 N 2"], Float[Array, "1 N"]]:
        """Points in the input frame and the padding point, in float32."""
        check_points_only(case, "the set of packages")
        scaled = transforms.apply_coords(case.prompts["point_coords"], case.size, self.model.config.image_size)
        coords = np.concatenate([scaled, np.zeros((1, 2))])[None].astype(np.float32)
        return coords, np.array([[*case.prompts["point_labels"], PADDING]], np.float32)


def declared(programs: Mapping[Part, mil.Program]) -> str:
    """What a set of packages computes in: fp16 where there is float16 in it, with int8 weights where there are 8-bit integers."""
    halves = any(kind.dtype == "fp16" for program in programs.values() for kind in program.types.values())
    if any(_in_steps(op, program) for program in programs.values() for op in program.ops):
        return "int8-fp16" if halves else "int8"
    return "fp16" if halves else "float32"


def compression_notes(programs: Mapping[Part, mil.Program]) -> tuple[str, ...]:
    """One sentence where weights were compressed to something else than 8-bit integers: a table of values, fewer bits, the
    greatest alone.

    How much that costs depends on how it was chosen. (An even table of 256 values for a whole tensor costs the demo model three
    times what int8 does, with its scale for each channel.)
    """
    plain = ("const", "constexpr_cast")
    ops = ((op, program) for program in programs.values() for op in program.ops if op.is_constant and op.type not in plain)
    names = [op.name for op, program in ops if not _in_steps(op, program)]
    return (COMPRESSED.format(len(names), names[0]),) if names else ()


def _in_steps(operation: Operation, program: mil.Program) -> bool:
    """Whether this is a weight that is stored as 8-bit integers, times a scale."""
    codes = {"constexpr_affine_dequantize": "quantized_data", "constexpr_blockwise_shift_scale": "data"}.get(operation.type, "")
    given = operation.inputs.get(codes, ()) or (operation.attributes.get(codes),)
    kind = program.types.get(given[0]) if isinstance(given[0], str) else getattr(given[0], "type", None)
    return isinstance(kind, TensorType) and kind.dtype in ("int8", "uint8")


def packages(words: tuple[str, ...]) -> dict[Part, Path]:
    """Part -> package: those of the usual names in a folder, or three that are named, told apart by their names or their order.

    Raises InputError where one is missing.
    """
    paths = [Path(word) for word in words]
    if len(paths) == 1:
        found = {part: paths[0] / name for part, name in PACKAGES.items()}
    elif len(paths) == len(PACKAGES):
        found = dict(zip(PACKAGES, sorted(paths, key=_place), strict=True))
    else:
        raise InputError(f"a Core ML port is a folder or three packages; there are {len(paths)}: {' '.join(words)}")
    missing = [path for path in found.values() if not path.exists()]
    if missing:
        raise InputError(f"there is no package {missing[0]}")
    return found


def _place(path: Path) -> int:
    """Encoder, prompt encoder, decoder, as their names say, which may all have a word in common (the model's, the app's)."""
    name = path.name.lower()
    return 1 if "prompt" in name else 2 if "decoder" in name or ("mask" in name and "encoder" not in name) else 0


def is_coreml(words: tuple[str, ...]) -> bool:
    """A folder of the three packages, or packages."""
    if len(words) == 1:
        return any((Path(words[0]) / name).exists() for name in PACKAGES.values())
    return all(word.rstrip("/").endswith(".mlpackage") for word in words)


def open_coreml(
    words: tuple[str, ...],
    *,
    model: MobileSam,
    precision: str | None,
    native: bool = False,
    units: Units = "ALL",
    image_pe: str | Path | None = None,
    inside: bool = False,
) -> CoreMLPort:
    """A folder of ImageEncoder, PromptEncoder and MaskDecoder.mlpackage, or three paths. Core ML runs them if `native`.

    `image_pe` is the app's file of the positional encoding; one of the usual name in the folder is taken by itself.

    Raises InputError where a package is missing, and for `native` with `inside`: Core ML shows outputs only, and results of the
    interpreter among its own would hold where the device is wrong.
    """
    if native and inside:
        raise InputError("--inside shows what refsam's interpreter computes, and --native what Core ML does; choose one of them")
    paths = packages(words)
    programs = {part: mil.load(path) for part, path in paths.items()}
    runs: Mapping[Part, Runnable] = {part: NativeProgram(path, units) for part, path in paths.items()} if native else programs
    beside = Path(words[0]) / IMAGE_PE
    file = Path(image_pe) if image_pe is not None else beside if beside.is_file() else None
    encoding = None if file is None else read_image_pe(file, model.image_pe.shape)
    port = CoreMLPort(programs, runs, model, encoding, precision, inside)
    port.notes += other_weights(programs, model)  # no error: what `weights convert` recovers of a package has a hash of its own
    return port


def other_weights(programs: Mapping[Part, mil.Program], model: MobileSam) -> tuple[str, ...]:
    """One sentence for each package of refsam's own that says that it was made of another weights file."""
    given = model.weights_sha256
    said = {part: program.model.metadata.get("refsam.weights_sha256", "") for part, program in programs.items()}
    return tuple(
        f"{PACKAGES[part]} was exported from other weights (sha256 {sha256[:12]}...) than these ({given[:12]}...)"
        for part, sha256 in said.items()
        if sha256 and given and sha256 != given
    )
