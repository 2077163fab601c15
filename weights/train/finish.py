"""What a camera does to a scene: light falling off, white balance, blur, noise, compression."""

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .textures import noise, ramp


def light_fall(rng: Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply by a slow brightness ramp and cloud, as uneven light does."""
    h, w = image.shape[:2]
    light = 1 + rng.uniform(0, 0.6) * ramp(rng, h, w) + rng.uniform(0, 0.12) * noise(rng, h, w, 90)
    return image * light.astype(np.float32)


def tone(rng: Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Contrast, gamma, white balance; one in twelve pictures is grey."""
    image = (image - 128) * rng.uniform(0.6, 1.15) + 128 + rng.uniform(-25, 25)
    image = np.clip(image * (1 + rng.normal(0, 0.05, 3)), 0, 255) / 255
    image = 255 * image ** np.exp(rng.normal(0, 0.2))
    if rng.random() < 1 / 12:
        image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    return np.asarray(image, dtype=np.float32)


def finish(rng: Generator, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture (S, S, 3) uint8 that a camera would give of a painted scene (S, S, 3) float32."""
    image = tone(rng, light_fall(rng, image))
    image = cv2.GaussianBlur(image, (0, 0), float(rng.choice([0.35, 0.6, rng.uniform(0.6, 1.6)])))
    sigma = rng.choice([1.0, 4.0, rng.uniform(4, 16)])
    image = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    picture = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])[1]
        picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return picture
