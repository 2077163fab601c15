"""What ports do to the picture's colours: uint8 pixels in, uint8 pixels out."""

from collections.abc import Callable

import numpy as np

from refsam import srgb
from refsam.types import Array, Float
from refsam.verify.hypotheses.resizing import to_uint8
from refsam.verify.pipeline import Picture

Recolour = Callable[[Picture], Picture]

BLACK, WHITE = 16, 235
"""Of 255: the ends of video range, in which most cameras and films have their luma."""
BT601, BT709 = np.array([0.299, 0.587, 0.114]), np.array([0.2126, 0.7152, 0.0722])
"""Luma of red, green, blue: of JPEG, still cameras and old video; of high definition."""

D65 = (0.3127, 0.3290)
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
"""(x, y) of white, and of red, green, blue: IEC 61966-2-1; SMPTE EG 432-1, which Display P3 has with sRGB's white and curve."""


_BAND = 64  # rows at once: in float64 a picture has eight times its bytes


def in_bands(recolour: Callable[[Picture], Array]) -> Recolour:
    """Levels of a function of pixels, 0 to 255, rounded."""

    def change(image: Picture) -> Picture:
        changed = np.empty_like(image)
        for top in range(0, len(image), _BAND):
            changed[top : top + _BAND] = to_uint8(recolour(image[top : top + _BAND]))
        return changed

    return change


def by_level(levels: Float[Array, "256"]) -> Recolour:
    """Each channel's levels replaced by others, 0 to 255."""
    table = to_uint8(levels)
    return lambda image: table[image]


_LEVELS = np.arange(256.0)

linear_light = by_level(255 * srgb.decoded(_LEVELS / 255))
encoded_twice = by_level(255 * srgb.encoded(_LEVELS / 255))
video_range = by_level(BLACK + _LEVELS * (WHITE - BLACK) / 255)
stretched = by_level((_LEVELS - BLACK) * 255 / (WHITE - BLACK))


@in_bands
def grey(image: Picture) -> Array:
    """Luma in all three channels."""
    return np.repeat((image @ BT601)[..., None], 3, axis=2)


def backwards(image: Picture) -> Picture:
    """The channels in the opposite order."""
    return image[..., ::-1]


def alpha_first(image: Picture) -> Picture:
    """The first three of alpha, red, green and blue."""
    return np.concatenate([np.full_like(image[..., :1], 255), image[..., :2]], axis=-1)


def ycc(luma: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Y, Cb and Cr of red, green and blue, by the weights of red, green and blue in Y (ITU-R BT.601, BT.709)."""
    red, _, blue = np.eye(3)
    return np.stack([luma, (blue - luma) / (2 - 2 * luma[2]), (red - luma) / (2 - 2 * luma[0])])


def misread_ycc(made: Float[Array, "3"], read: Float[Array, "3"]) -> Recolour:
    """Y, Cb and Cr of one standard's luma read by another's."""
    matrix = np.linalg.inv(ycc(read)) @ ycc(made)
    return in_bands(lambda image: image @ matrix.T)


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> Float[Array, "3 3"]:
    """CIE XYZ of light in red, green and blue, all three of which together are D65's white with Y = 1."""
    lights = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*primaries, D65)])
    return lights[:3].T * np.linalg.solve(lights[:3].T, lights[3])


def converted(source: tuple[tuple[float, float], ...], target: tuple[tuple[float, float], ...]) -> Recolour:
    """From one display's primaries to another's, as colour management does it; what the target cannot show is cut off."""
    matrix = np.linalg.solve(to_xyz(target), to_xyz(source))

    light = srgb.decoded(_LEVELS / 255)
    return in_bands(lambda image: 255 * srgb.encoded(np.clip(light[image] @ matrix.T, 0, 1)))
