"""The weights in a set of packages, under upstream's names: a checkpoint again.

A package keeps its operations in the order in which they run, and for each kind of them (convolutions, linear maps, norms ...)
that is the order of the checkpoint. So the nth linear map has the nth name of a linear map, unless its constant's own name ends
like another tensor's, which then decides: converters from torch, and refsam's export, keep those names.

What a package does not have as the checkpoint has it:
- BatchNorm is folded into the convolution before it. The checkpoint gets the folded kernel, and a BatchNorm that changes nothing.
- The attention's biases are spread over all pairs of a window. One of each distance is taken.
- Mask prompts and boxes. Their tensors come from a base, a checkpoint of the same architecture.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from refsam.config import Config
from refsam.coreml.arithmetic import arithmetic
from refsam.coreml.export import PACKAGES, Part
from refsam.coreml.mil import Program
from refsam.coreml.roles import roles_of
from refsam.coreml.types import Operation
from refsam.errors import PackageError
from refsam.ops.attention import attention_bias_index
from refsam.parameters import parameter_shapes
from refsam.types import Array

NOT_IN_PACKAGES = ("prompt_encoder.mask_downscaling.", "prompt_encoder.point_embeddings.2.", "prompt_encoder.point_embeddings.3.")
"""Prefixes of the tensors of mask prompts and boxes: the packages take points and their labels only."""

EPSILON = np.float32(1e-5)
"""Of every BatchNorm."""

SUFFIXES = re.compile("(_to_fp16|_to_fp32|_palettized|_quantized|_sparsified|_pruned)+$")
"""What coremltools appends to a constant's name."""

Tensors = dict[str, Array]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recovered:
    """Weights of all three parts.

    Attributes:
        tensors: float32, under upstream's names, all that the graph of the config uses.
        from_base: the names of those that are the base's.
    """

    tensors: Tensors
    from_base: tuple[str, ...]


def recover(programs: Mapping[Part, Program], base: Mapping[str, Array], config: Config) -> Recovered:
    """The weights in these packages; what they cannot have, from `base`.

    Args:
        programs: the three parts.
        base: tensors of a checkpoint of the same architecture.
        config: the base's.

    Raises PackageError, which names the package and the tensor, where a package is not MobileSAM's of this architecture.
    """
    shapes = parameter_shapes(config)
    readers = {"image_encoder": _image_encoder, "prompt_encoder": _prompt_encoder, "mask_decoder": _mask_decoder}
    found: Tensors = {}
    for part, program in programs.items():
        wanted = {n: shape for n, shape in shapes.items() if n.startswith(f"{part}.") and not n.startswith(NOT_IN_PACKAGES)}
        try:
            own = readers[part](_Package(program), wanted, config)
            _check(own, wanted)
        except PackageError as error:
            raise PackageError(f"{PACKAGES[part]}: {error}") from None
        found |= own
    rest = tuple(name for name in shapes if name not in found)
    return Recovered({name: found[name] if name in found else base[name] for name in shapes}, rest)


class _Package:
    """A program's operations by kind, and the constants that each of them uses."""

    def __init__(self, program: Program) -> None:
        self.program = program
        with arithmetic("fp32") as c:
            self.constants = program.constants(c)
        self.operations = [op for op in program.ops if not op.is_constant]

    def of_kind(self, *kinds: str) -> list[Operation]:
        """In the order in which they run."""
        return [op for op in self.operations if op.type in kinds]

    def name(self, op: Operation, parameter: str) -> str:
        """The constant's own name, as torch had it; "" where it has none."""
        group = op.inputs.get(parameter, ())
        return SUFFIXES.sub("", group[0]) if len(group) == 1 and isinstance(group[0], str) else ""

    def value(self, op: Operation, parameter: str) -> Array | None:
        """A constant parameter, None where it is not there or is computed."""
        group = op.inputs.get(parameter, ())
        found = self.constants.get(group[0]) if len(group) == 1 and isinstance(group[0], str) else None
        return found if isinstance(found, np.ndarray) else None

    def weight(self, op: Operation, parameter: str) -> Array:
        """As `value`. Raises PackageError where it is not there."""
        found = self.value(op, parameter)
        if found is None:
            raise PackageError(f"the {parameter} of {op.type} {op.name} is no constant")
        return found


def _image_encoder(package: _Package, shapes: Shapes, config: Config) -> Tensors:
    found = _affine_maps(package, shapes, "linear", _weights(shapes, 2)) | _norms(package, _weights(shapes, 1))
    for op, name in _matched(package, package.of_kind("conv"), "weight", _weights(shapes, 4), "convolutions"):
        found |= _convolution(package, op, name)
    tables = [op for op in package.of_kind("add") if _operand(package, op, lambda x: x.ndim >= 3) is not None]
    names = [name for name in shapes if name.endswith(".attention_biases")]
    for op, name in _matched(package, tables, "y", names, "tables of attention biases"):
        window = config.window_sizes[int(name.split(".")[2])]
        found[name] = _distances(package.weight(op, "y"), window, name)
    return found


def _mask_decoder(package: _Package, shapes: Shapes, config: Config) -> Tensors:
    embedded = ("mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight")
    linear = [name for name in _weights(shapes, 2) if name not in embedded]
    found = _affine_maps(package, shapes, "linear", linear) | _norms(package, _weights(shapes, 1))
    found |= _affine_maps(package, shapes, "conv_transpose", _weights(shapes, 4))
    tokens = _tokens(package, config)
    return found | dict(zip(embedded, (tokens[:1], tokens[1:]), strict=True))


def _prompt_encoder(package: _Package, shapes: Shapes, config: Config) -> Tensors:
    linear, width = package.of_kind("linear"), config.prompt_embed_dim
    if len(linear) != 1:
        raise PackageError(f"it has {len(linear)} linear maps; the position encoding is one")
    sums = [op for op in package.of_kind("add") if _operand(package, op, lambda x: x.size == width) is not None]
    names = [name for name in shapes if ".point_embeddings." in name]
    found = {
        name: package.weight(op, "y").reshape(1, width) for op, name in _matched(package, sums, "y", names, "point embeddings")
    }
    sparse, dense = _padding_point(package.program)
    return {
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": package.weight(linear[0], "weight").T,
        **found,
        "prompt_encoder.not_a_point_embed.weight": sparse[0, :1],
        "prompt_encoder.no_mask_embed.weight": dense[:, :, 0, 0],
    }


def _weights(shapes: Shapes, rank: int) -> list[str]:
    """The tensors named weight that have so many axes: 1 norms, 2 linear maps, 4 convolutions. Those of BatchNorm are folded."""
    return [name for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == rank and ".bn." not in name]


def _padding_point(program: Program) -> tuple[Array, Array]:
    """Both outputs for one point of label -1: the embeddings of no point and of no mask, wherever the program keeps them."""
    if len(program.inputs) != 2:
        raise PackageError(f"it has {len(program.inputs)} inputs; points and their labels are two")
    roles = roles_of("prompt_encoder", program.inputs)
    found = program.run({roles["points"]: np.zeros((1, 1, 2)), roles["labels"]: np.full((1, 1), -1.0)}, "fp32")
    by_rank = {value.ndim: value for value in found.values()}
    if set(by_rank) != {3, 4}:
        raise PackageError(f"its outputs have {sorted(by_rank)} axes; tokens have three and the dense embedding four")
    return by_rank[3], by_rank[4]


def _operand(package: _Package, op: Operation, fits: Callable[[Array], bool]) -> Array | None:
    """The second operand, where it is a constant that fits."""
    found = package.value(op, "y")
    return found if found is not None and fits(found) else None


def _affine_maps(package: _Package, shapes: Shapes, kind: str, weights: list[str]) -> Tensors:
    """Weights and biases of linear maps or transposed convolutions."""
    found: Tensors = {}
    for op, name in _matched(package, package.of_kind(kind), "weight", weights, f"{kind} operations"):
        found[name] = package.weight(op, "weight")
        bias, given = name.removesuffix("weight") + "bias", package.value(op, "bias")
        found[bias] = np.zeros(shapes[bias], np.float32) if given is None else given
    return found


def _norms(package: _Package, weights: list[str]) -> Tensors:
    """Of both kinds: a conversion from torch makes a batch_norm of the last step of LayerNorm2d."""
    found: Tensors = {}
    for op, name in _matched(package, package.of_kind("layer_norm", "batch_norm"), "gamma", weights, "norms"):
        mean, variance = package.value(op, "mean"), package.value(op, "variance")
        if op.type == "batch_norm" and (mean is None or variance is None or mean.any() or (variance != 1).any()):
            raise PackageError(f"batch_norm {op.name} has statistics of its own, which no LayerNorm2d has")
        found[name] = package.weight(op, "gamma").reshape(-1)
        found[name.removesuffix("weight") + "bias"] = package.weight(op, "beta").reshape(-1)
    return found


def _convolution(package: _Package, op: Operation, name: str) -> Tensors:
    """The neck's have no BatchNorm; the others get one that adds the bias and changes nothing else.

    The variance plus epsilon is 1 to float32's last bit, and its root and the quotient by it are 1 too.
    """
    kernel, bias = package.weight(op, "weight"), package.value(op, "bias")
    if not name.endswith(".c.weight"):
        if bias is not None and bias.any():
            raise PackageError(f"conv {op.name} has a bias, and {name} has none")
        return {name: kernel}
    outputs, bn = len(kernel), name.removesuffix("c.weight") + "bn."
    zeros, ones = np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
    shift = zeros if bias is None else bias
    return {name: kernel, f"{bn}weight": ones, f"{bn}bias": shift, f"{bn}running_mean": zeros, f"{bn}running_var": ones - EPSILON}


def _distances(spread: Array, window: int, name: str) -> Array:
    """(K, N, N) for all pairs of a window of N = window^2 places -> (K, N), one for each distance."""
    index = attention_bias_index(window)
    if spread.shape[-2:] != index.shape:
        raise PackageError(f"{name} is spread over {spread.shape[-2:]} pairs; a window of {window} has {index.shape}")
    pairs = spread.reshape(-1, *index.shape)
    biases = np.empty((len(pairs), window**2), np.float32)
    biases[:, index[0]] = pairs[:, 0]
    if not np.array_equal(biases[:, index], pairs):
        raise PackageError(f"{name} is not the same for equal distances (its compression is to blame?), and a checkpoint's are")
    return biases


def _tokens(package: _Package, config: Config) -> Array:
    """(1 + M, D): the constants that stand before the prompt's tokens in the first concat that has any."""
    for op in package.of_kind("concat"):
        values = (package.constants.get(a) if isinstance(a, str) else None for a in op.inputs.get("values", ()))
        tokens = [x for x in values if isinstance(x, np.ndarray) and x.shape[-1:] == (config.prompt_embed_dim,)]
        if tokens:
            return np.concatenate([x.reshape(-1, x.shape[-1]) for x in tokens])
    raise PackageError("it has no output tokens: no concat with a constant of the decoder's width")


def _matched(
    package: _Package, operations: list[Operation], parameter: str, names: list[str], what: str
) -> Iterator[tuple[Operation, str]]:
    """Each operation with its tensor: by the constant's own name, else the next one that is left."""
    if len(operations) != len(names):
        raise PackageError(f"it has {len(operations)} {what}; this architecture has {len(names)}")
    named = {op.name: _named(package.name(op, parameter), names) for op in operations}
    taken = {name for name in named.values() if name}
    rest = iter([name for name in names if name not in taken])
    if len(taken) != sum(bool(name) for name in named.values()):
        raise PackageError(f"two {what} say that they are the same tensor")
    for op in operations:
        yield op, named[op.name] or next(rest)


def _named(constant: str, names: Iterable[str]) -> str:
    """The tensor whose name, with "_" for dots and without the part, the constant's name ends with; the longest if several."""
    endings = {name.split(".", 1)[1].replace(".", "_"): name for name in names}
    found = [ending for ending in endings if constant == ending or constant.endswith("_" + ending)]
    return endings[max(found, key=len)] if found else ""


def _check(tensors: Tensors, shapes: Shapes) -> None:
    for name, shape in shapes.items():
        if name not in tensors:
            raise PackageError(f"{name} was not found in it")
        if tensors[name].shape != shape:
            raise PackageError(f"{name} has shape {tensors[name].shape}; in the base's architecture it has {shape}")
