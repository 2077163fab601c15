"""Pictures in: a file of any usual kind becomes 8-bit RGB, and an array of the caller's is checked."""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from refsam.arguments import whole_number
from refsam.errors import InputError
from refsam.files import is_file, why_not_there
from refsam.shared_setting import SharedSetting
from refsam.types import Array, UInt8

if TYPE_CHECKING:
    from PIL import Image

ImageSource: TypeAlias = "str | os.PathLike[str] | BufferedIOBase"

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO", "QOI")
"""Files of pixels. Others that Pillow opens are left out: EPS, for one, would run an interpreter on what the file says."""

MAX_PIXELS = 178_956_970
"""The largest picture, and so the largest mask: Pillow's own limit against decompression bombs."""

_TILE = (256, 4096)  # rows and columns that are converted at once: about a megapixel, so that temporaries stay small


_ANY_WARNING = "(?s:.*)(?#refsam.images)"
"""A pattern of messages that is nobody else's, so that its filter can be taken away again among those of others."""


def _ignore_warnings() -> None:
    warnings.filterwarnings("ignore", message=_ANY_WARNING)


def _heed_warnings() -> None:
    filters: Any = warnings.filters  # a list, although it is declared as less
    filters[:] = [entry for entry in filters if getattr(entry[1], "pattern", None) != _ANY_WARNING]


# Filters are the whole process's: of two threads with a `catch_warnings` of their own, one would restore what the other had set.
_silence = SharedSetting(_ignore_warnings, _heed_warnings)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns at half of its limit and about odd metadata; neither concerns the pixels."""
    # From Python 3.14 on filters may be each thread's own: then what one thread sets does not reach the others, nor theirs it.
    if getattr(sys.flags, "context_aware_warnings", False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    else:
        with _silence.changed():
            yield


def read_image(source: ImageSource, ground: int = 255) -> UInt8[Array, "H W 3"]:
    """The picture in a file, upright, as 8-bit RGB.

    Args:
        source: a path, or a binary file open for reading (io.BytesIO for bytes).
        ground: the grey that transparent pixels are blended with: 255 for white to 0 for black.
    Returns:
        EXIF orientation is applied. Grey and palette pictures become RGB; transparent pixels are blended with `ground`:
        white is what a viewer shows (upstream's users drop alpha instead, and get what lies hidden beneath: for that, pass
        `numpy.asarray(Image.open(path).convert("RGB"))`). 16-bit grey is scaled to 8 bits, v / 257 rounded. CMYK goes the plain
        way, without colour profiles. An animation gives its first frame.
    Raises:
        InputError: the file is missing, not a picture, cut short, of a kind that does not fit 8-bit RGB (float pixels), or has
            more pixels than Pillow's own limit (MAX_PIXELS, unless the caller changed it); or `source` or `ground` is none.
        MemoryError: there is not enough memory for its pixels.
    """
    if not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read"):
        raise InputError(
            f"the image is a {type(source).__name__}; a path or a file open for reading is needed: io.BytesIO(data) for bytes"
        )
    name, ground = _name(source), whole_number("ground", ground, 0, 255)
    if isinstance(source, (str, os.PathLike)) and not is_file(source):
        raise InputError(f"cannot read the image {name}: {_no_file(source)}")
    with _without_warnings():
        try:
            return _read(source, name, ground)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # Pillow's decoders raise whatever the damaged bytes lead them to
            raise InputError(f"cannot read the image {name}: {_reason(error)}") from error


def as_image(image: Any) -> UInt8[Array, "H W 3"]:
    """The caller's array, checked to be a picture: (height, width, 3), uint8, at least one pixel. Raises InputError."""
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"image is a {type(image).__name__}; a NumPy array (height, width, 3) of uint8 is needed:"
            " refsam.images.read_image(path), or numpy.asarray(pil_image.convert('RGB'))"
        )
    shape = f"image has shape {image.shape}; (height, width, 3) is needed"
    if image.ndim == 2:
        raise InputError(f"{shape}: make grey RGB with numpy.stack([image] * 3, axis=-1)")
    if image.ndim == 4:
        raise InputError(f"{shape}: give one image at a time, image[0]")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{shape}{_channel_remedy(image.shape)}")
    if image.dtype != np.uint8:
        raise InputError(f"image is of {image.dtype}; uint8 from 0 to 255 is needed{_dtype_remedy(image)}")
    if image.size == 0:
        raise InputError(f"{shape}, with at least one pixel")
    return image


def pixels_sha256(image: UInt8[Array, "H W 3"]) -> str:
    """The hash of a picture's RGB pixels, row by row: what it shows, whatever file it came from."""
    digest = hashlib.sha256()
    for row in image:
        digest.update(np.ascontiguousarray(row).data)
    return digest.hexdigest()


def _channel_remedy(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return ""
    if shape[2] == 4:
        return ": drop alpha with image[..., :3], or blend it first"
    if shape[2] == 1:
        return ": make grey RGB with numpy.repeat(image, 3, axis=-1)"
    return ": move the channels last with image.transpose(1, 2, 0)" if shape[0] == 3 else ""


def _dtype_remedy(image: Array) -> str:
    if image.dtype.kind == "f":
        return ": from 0..1, (image * 255).round().astype('uint8')"
    return ": from 0..65535, (image / 257).round().astype('uint8')" if image.dtype == np.uint16 else ""


def _no_file(path: str | os.PathLike[str]) -> str:
    """Why `path`, which is not a regular file, is no picture."""
    reason = why_not_there(path)
    if reason:
        return reason
    if Path(path).is_dir():
        return "it is a folder"
    return "it is not a regular file but a device or a pipe; save what it gives to a file first"


def _name(source: ImageSource) -> str:
    """What to call the picture in a message."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return repr(os.fspath(name)) if isinstance(name, (str, os.PathLike)) else "from an open file"


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"it is not a picture of a known kind ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return f"it is too large, it could be a decompression bomb ({error})"
    return f"it is damaged or cut short ({str(error) or type(error).__name__})"


def _read(source: ImageSource, name: str, ground: int) -> UInt8[Array, "H W 3"]:
    from PIL import Image

    with Image.open(source) as image:  # type: ignore[arg-type]  # typeshed does not know that BufferedIOBase is a binary file
        if image.format not in FORMATS:
            raise InputError(f"cannot read the image {name}: {image.format} files are not read, only {', '.join(FORMATS)}")
        image.load()
        if image.mode == "F" or (image.mode == "I" and not _is_16_bit(image)):
            raise InputError(f"cannot read the image {name}: its pixels ({image.mode}) do not fit 16 bits; save it as 8-bit RGB")
        return _to_rgb(image, ground)


def _is_16_bit(image: "Image.Image") -> bool:
    """Whether 32-bit whole numbers are really 16-bit grey (as PNG and PGM come in some versions of Pillow)."""
    lowest, highest = image.getextrema()
    return lowest >= 0 and highest <= 65535  # type: ignore[operator]


def _to_rgb(image: "Image.Image", ground: int) -> UInt8[Array, "H W 3"]:
    """Convert tile by tile, into its upright place: no second copy of the whole picture is ever made."""
    upright, as_stored = _destination(image.height, image.width, _orientation(image))
    for top in range(0, image.height, _TILE[0]):
        for left in range(0, image.width, _TILE[1]):
            bottom, right = min(top + _TILE[0], image.height), min(left + _TILE[1], image.width)
            as_stored[top:bottom, left:right] = _tile_to_rgb(image.crop((left, top, right, bottom)), ground)
    return upright


def _destination(height: int, width: int, orientation: int) -> tuple[UInt8[Array, "h w 3"], UInt8[Array, "H W 3"]]:
    """(upright array, a view of it in the order of the stored pixels) for one of EXIF's eight orientations."""
    turned = orientation in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored = upright.swapaxes(0, 1) if turned else upright
    # In the stored order: 2, 3, 7, 8 run against the upright picture along a row; 3, 4, 6, 7 along a column.
    backwards = slice(None, None, -1)
    rows = backwards if orientation in (3, 4, 6, 7) else slice(None)
    columns = backwards if orientation in (2, 3, 7, 8) else slice(None)
    return upright, stored[rows, columns]


def _orientation(image: "Image.Image") -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged metadata says nothing about the pixels
        return 1


def _tile_to_rgb(tile: "Image.Image", ground: int) -> UInt8[Array, "H W 3"]:
    if tile.mode.startswith("I"):
        grey = np.asarray(tile).astype(np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=-1)
    if tile.has_transparency_data:
        return _on_ground(np.asarray(tile.convert("RGBA")), ground)
    return np.asarray(tile.convert("RGB"))


def _on_ground(rgba: UInt8[Array, "H W 4"], ground: int) -> UInt8[Array, "H W 3"]:
    """Blend with a grey, rounded: 255 * 255 + 127 still fits 16 bits."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blend = rgba[..., :3] * alpha + (255 - alpha) * np.uint16(ground)
    return ((blend + 127) // 255).astype(np.uint8)
