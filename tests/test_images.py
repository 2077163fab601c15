"""Every kind of picture file, and every way in which one can be wrong."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from refsam import images
from refsam.errors import InputError
from refsam.images import as_image, pixels_sha256, read_image

ROOT = Path(images.__file__).parent.parent
RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(folder, image, name="picture.png", **options):
    image.save(folder / name, **options)
    return folder / name


def png(width, height, rows, depth=8, colour=2):
    """A PNG file by hand: what its header says need not be what its data holds."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.core
@pytest.mark.parametrize("name", ["picture.png", "picture.bmp", "picture.tiff", "picture.webp", "picture.ppm"])
def test_lossless_rgb_comes_as_it_was(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(RGB), name, **({"lossless": True} if name.endswith("webp") else {}))
    np.testing.assert_array_equal(read_image(path), RGB)
    np.testing.assert_array_equal(read_image(str(path)), RGB)
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_image(file), RGB)


def test_a_jpeg_has_pillows_own_pixels(tmp_path):
    path = saved(tmp_path, Image.fromarray(RGB), "picture.jpg", quality=90)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))


@pytest.mark.core
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(Image.open(path))))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RGB), exif=exif)), RGB)


def test_damaged_exif_does_not_keep_the_pixels_away(tmp_path):
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RGB), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), RGB)


@pytest.mark.core
@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bits_and_palette_become_rgb(tmp_path, mode):
    image = Image.fromarray(RGB).convert(mode)
    np.testing.assert_array_equal(read_image(saved(tmp_path, image)), np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb(tmp_path):
    path = saved(tmp_path, Image.fromarray(RGB).convert("CMYK"), "picture.tiff")
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.core
def test_alpha_is_blended_with_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 51]]], np.uint8)
    # 51 / 255 is a fifth: 0.2 * (10, 20, 30) + 0.8 * 255
    np.testing.assert_array_equal(
        read_image(saved(tmp_path, Image.fromarray(rgba))), [[[10, 20, 30], [255] * 3, [206, 208, 210]]]
    )


def test_blending_rounds_as_exact_arithmetic():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgba = np.stack([colour, colour, colour, alpha], axis=-1).astype(np.uint8)
    exact = (colour * alpha + 255 * (255 - alpha)) / 255  # k / 255 is never halfway between two whole numbers
    np.testing.assert_array_equal(images._on_ground(rgba, 255)[..., 0], np.rint(exact))


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("ground", "message"),
    [
        (300, "ground is 300; it has to be from 0 to 255"),
        (-1, "ground is -1; it has to be from 0 to 255"),
        (0.5, "ground is 0.5, a float; a whole number is needed"),
    ],
)
def test_a_ground_that_is_no_grey_is_not_taken_for_damage(tmp_path, ground, message):
    path = saved(tmp_path, Image.new("RGBA", (2, 2), (1, 2, 3, 4)))
    with pytest.raises(InputError, match=f"^{message}$"):
        read_image(path, ground)


def test_grey_with_alpha_and_a_transparent_palette_colour(tmp_path):
    grey = Image.new("LA", (2, 1), (40, 255))
    grey.putpixel((1, 0), (40, 0))
    np.testing.assert_array_equal(read_image(saved(tmp_path, grey))[0, :, 0], [40, 255])
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(read_image(saved(tmp_path, palette, transparency=1)), [[[200, 0, 0], [255, 255, 255]]])


@pytest.mark.core
@pytest.mark.parametrize("name", ["picture.png", "picture.tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    grey = np.array([[0, 128, 129, 257, 32767, 65535]], np.uint16)
    path = saved(tmp_path, Image.fromarray(grey), name)
    # v / 257 rounded: 128 is just below a half, 129 just above
    np.testing.assert_array_equal(read_image(path), np.repeat(np.array([[[0], [0], [1], [1], [127], [255]]]), 3, axis=-1))


def test_32_bit_grey_is_read_within_16_bits_and_refused_beyond(tmp_path):
    inside = saved(tmp_path, Image.fromarray(np.array([[0, 65535]], np.int32)), "inside.tiff")
    np.testing.assert_array_equal(read_image(inside)[0, :, 0], [0, 255])
    beyond = saved(tmp_path, Image.fromarray(np.array([[0, 65536]], np.int32)), "beyond.tiff")
    with pytest.raises(InputError, match=r"beyond\.tiff.*8-bit"):
        read_image(beyond)


def test_float_pixels_are_refused(tmp_path):
    with pytest.raises(InputError, match="8-bit"):
        read_image(saved(tmp_path, Image.fromarray(np.ones((2, 2), np.float32)), "picture.tiff"))


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "picture.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path), np.asarray(frames[0]))


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_a_picture_one_pixel_wide(tmp_path, size):
    assert read_image(saved(tmp_path, Image.new("L", size, 7))).tolist() == np.full((size[1], size[0], 3), 7).tolist()


@pytest.mark.parametrize("orientation", [1, 6])
def test_tiles_meet(tmp_path, monkeypatch, orientation):
    monkeypatch.setattr(images, "_TILE", (2, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = RGB if orientation == 1 else np.rot90(RGB, -1)
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RGB), exif=exif)), expected)


def test_a_large_picture_is_not_copied_whole(tmp_path):
    path = saved(tmp_path, Image.new("RGBA", (3000, 2000), (1, 2, 3, 4)))
    tracemalloc.start()
    image = read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Pillow's own pixels are not traced. A tile of 2**20 pixels: RGBA twice (Pillow's export), 16-bit products and sums, RGB.
    assert peak < image.nbytes + 32 * 2**20


@pytest.mark.core
def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    for name, problem in [("none.png", "no such file"), ("", "folder"), ("empty.png", "not a picture")]:
        with pytest.raises(InputError, match=problem) as error:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


@pytest.mark.core
@pytest.mark.parametrize(("name", "problem"), [("x" * 300, "File name too long"), ("a\0b", "no file can have this name")])
def test_a_name_that_the_system_does_not_take_is_an_input_error(name, problem):
    with pytest.raises(InputError, match=f"cannot read the image .*: {problem}"):
        read_image(name)


def test_a_pipe_and_a_device_are_there_but_no_files(tmp_path):
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(InputError, match="not a regular file"):
            read_image(path)


def test_too_little_memory_is_not_called_damage(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(RGB))

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(images, "_to_rgb", full)
    with pytest.raises(MemoryError):
        read_image(path)


@pytest.mark.core
@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.webp", "picture.tiff", "picture.bmp", "picture.gif"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path, name, keep):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match=r"picture\..*(damaged|not a picture)"):
        read_image(path)


def test_text_is_not_a_picture(tmp_path):
    (tmp_path / "picture.png").write_text("hello " * 100)
    with pytest.raises(InputError, match="not a picture of a known kind"):
        read_image(tmp_path / "picture.png")


def test_postscript_is_never_run(tmp_path):
    (tmp_path / "picture.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="EPS"):
        read_image(tmp_path / "picture.eps")


@pytest.mark.core
def test_a_decompression_bomb_is_refused_before_it_opens(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, b"\0" * 1000))
    tracemalloc.start()
    with pytest.raises(InputError, match="decompression bomb"):
        read_image(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_pillows_warning_below_its_limit_is_silenced_here_only(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    path = saved(tmp_path, Image.fromarray(RGB))  # 35 pixels: more than 20, not more than 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(path), RGB)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(path).close()


def test_warnings_are_silenced_where_filters_are_each_thread_s_own(tmp_path, monkeypatch):
    """Python 3.14 without the GIL, or with -X context_aware_warnings=1: `warnings.filters` is not the list in use."""

    def never():
        raise AssertionError("the filters of the whole process are left alone")

    monkeypatch.setattr(images, "sys", SimpleNamespace(flags=SimpleNamespace(context_aware_warnings=1)))
    monkeypatch.setattr(images, "_silence", SimpleNamespace(changed=never))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    path = saved(tmp_path, Image.fromarray(RGB))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        np.testing.assert_array_equal(read_image(path), RGB)
        assert warnings.filters == before


def test_with_context_aware_warnings_no_filter_is_left_behind(tmp_path):
    """Python before 3.14 does not know the option, and has nothing to do."""
    code = (
        "import sys, warnings; from PIL import Image; from refsam.images import read_image\n"
        "Image.MAX_IMAGE_PIXELS = 20\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('error')\n"
        "    filters = getattr(warnings, '_get_filters', lambda: warnings.filters)\n"
        "    before = list(filters()); read_image(sys.argv[1]); assert list(filters()) == before\n"
    )
    path = saved(tmp_path, Image.fromarray(RGB))
    subprocess.run([sys.executable, "-X", "context_aware_warnings=1", "-c", code, str(path)], check=True, cwd=ROOT, timeout=60)


def test_threads_that_read_pictures_leave_the_warning_filters_as_they_are(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.zeros((300, 300, 3), np.uint8)))
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_image, [path] * 100))
    assert warnings.filters == before


class Nested(io.BytesIO):
    """A file that reads another picture while it is read itself, as an archive's may."""

    def read(self, *size):
        read_image(io.BytesIO(png(2, 2, bytes(2 * 7))))
        return super().read(*size)


def test_a_file_may_read_another_picture_while_it_is_read():
    content = png(2, 2, bytes(2 * 7))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(read_image, Nested(content)).result(60).shape == (2, 2, 3)


def test_a_file_object_is_named_where_it_has_a_name(tmp_path):
    with pytest.raises(InputError, match="from an open file"):
        read_image(io.BytesIO(b"nothing"))


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("source", [png(2, 2, bytes(2 * 7)), None, 3, RGB], ids=["bytes", "None", "descriptor", "array"])
def test_what_is_neither_a_path_nor_a_file_is_not_called_damaged(source):
    with pytest.raises(
        InputError, match=f"^the image is a {type(source).__name__}; a path or .*: io.BytesIO\\(data\\) for bytes$"
    ):
        read_image(source)


@pytest.mark.core
def test_as_image_passes_a_picture_through():
    assert as_image(RGB) is RGB
    view = RGB[:, ::-1, ::-1]
    assert as_image(view) is view


@pytest.mark.core
def test_the_hash_of_pixels_is_of_their_bytes_in_order_however_they_lie_in_memory():
    expected = hashlib.sha256(RGB.tobytes()).hexdigest()
    assert pixels_sha256(RGB) == pixels_sha256(np.asfortranarray(RGB)) == expected
    assert pixels_sha256(RGB[:, ::-1]) == hashlib.sha256(RGB[:, ::-1].tobytes()).hexdigest() != expected


@pytest.mark.core
@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (RGB.tolist(), "NumPy array"),
        (RGB[..., 0], "stack"),
        (RGB[None], r"image\[0\]"),
        (RGB.transpose(2, 0, 1), r"transpose\(1, 2, 0\)"),
        (np.zeros((5, 7, 4), np.uint8), "alpha"),
        (np.zeros((5, 7, 1), np.uint8), "repeat"),
        (np.zeros((5, 7, 2), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (RGB / 255, r"\* 255"),
        (RGB.astype(np.uint16), "257"),
        (RGB.astype(np.int64), "uint8"),
        (RGB[:0], "at least one pixel"),
    ],
)
def test_as_image_says_what_to_do(array, remedy):
    with pytest.raises(InputError, match=remedy):
        as_image(array)
