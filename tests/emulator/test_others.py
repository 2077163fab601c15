"""Kernels in the manner of other people's programs, run as docs/emulator.md says, and held against NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refsam import emulator as mc
from refsam.metal.signature import pack

OTHERS = Path(__file__).parent / "kernels" / "others"
Run = Callable[[mc.Device], None]


def source(name: str) -> str:
    return (OTHERS / f"{name}.metal").read_text("utf-8")


def softmax(device: mc.Device) -> None:
    rng, text = np.random.default_rng(4), source("softmax")
    x = rng.normal(0, 9, (5, 321)).astype(np.float32)
    y = device.buffer(x.nbytes)
    args = pack(text, "SoftmaxArgs", {"rows": 5, "columns": 321, "temperature": 2.0})
    groups = device.options.group_size // device.options.simd_width * device.options.simd_width
    device.kernel(text).function("softmax_forward")(7 * groups, x, y, args)
    exact = np.exp((x - x.max(axis=1, keepdims=True)).astype(np.float64) / 2)
    np.testing.assert_allclose(np.frombuffer(y, np.float32).reshape(5, -1), exact / exact.sum(axis=1, keepdims=True), rtol=1e-5)


def histogram(device: mc.Device) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (3000, 4), np.uint8)
    counts = device.buffer(1024)
    device.kernel(source("histogram")).function("histogram")(1000, pixels, counts, np.uint32(3000))
    found = np.frombuffer(counts, np.uint32)
    luma = pixels[:, :3].astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
    assert found.sum() == 3000
    assert abs(np.cumsum(found) - np.searchsorted(np.sort(luma), np.arange(1, 257))).max() <= 2  # a grey level's edge may round


def mask_overlay(device: mc.Device) -> None:
    rng = np.random.default_rng(4)
    image, mask = rng.integers(0, 256, (20, 30, 4), np.uint8), rng.normal(0, 3, (10, 15)).astype(np.float32)
    text, color = source("mask_overlay"), np.float32([1, 0, 0.5, 0.6])
    values = {
        "imageSize": (30, 20), "maskSize": (15, 10), "imageToMask": np.diag([0.5, 0.5, 1]), "color": color,
        "edge0": -1, "edge1": 1,
    }  # fmt: skip
    uniforms = pack(text, "OverlayUniforms", values)
    assert len(uniforms) == 96
    out = device.buffer(image.nbytes)
    device.kernel(text).function("overlay")(600, image, mask, out, uniforms)
    y, x = ((np.arange(n) + 0.5) * 0.5 - 0.5 for n in (20, 30))
    rows = np.stack([np.interp(x, np.arange(15), row) for row in mask])
    logits = np.stack([np.interp(y, np.arange(10), column) for column in rows.T], axis=1)
    t = np.clip((logits + 1) / 2, 0, 1)
    alpha = (0.6 * t * t * (3 - 2 * t))[..., None]
    expected = image[..., :3] * (1 - alpha) + color[:3] * 255 * alpha
    found = np.frombuffer(out, np.uint8).reshape(20, 30, 4)
    assert abs(found[..., :3] - expected).max() <= 0.5 + 0.125  # a rounding to whole numbers, one to half precision before it
    assert (found[..., 3] == 255).all()


def mandelbrot(device: mc.Device) -> None:
    size = np.float32([40, 30])
    out = device.buffer(40 * 30 * 4)
    device.kernel(source("mandelbrot")).function("mandelbrot")(1200, size, out)
    i, j = np.meshgrid(np.arange(40), np.arange(30))
    c, z, steps = i / 40 * 3 - 2 + (j / 30 * 2 - 1) * 1j, np.zeros((30, 40), complex), np.zeros((30, 40))
    for _ in range(50):
        inside = abs(z) < 2
        steps += inside
        z = np.where(inside, z * z + c, z)
    red = np.frombuffer(out, np.uint8).reshape(30, 40, 4)[..., 0]
    assert (abs(red - steps / 50 * 255) > 1).mean() < 0.01  # points that escape late are decided by roundings


@pytest.mark.parametrize("options", [{"threads": 2}, {"checked": True}, {"group_size": 96, "simd_width": 16, "seed": 2}], ids=str)
@pytest.mark.parametrize("run", [softmax, histogram, mask_overlay, mandelbrot])
def test_a_kernel_of_somebody_else_runs_unchanged(run: Run, options: dict[str, int | bool]) -> None:
    run(mc.Device(**{"group_size": 256, **options}))
