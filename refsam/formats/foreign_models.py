"""Files that people take for a MobileSAM checkpoint, told apart so that the error says what they have."""

import re
from collections.abc import Callable, Mapping

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

SAM_WIDTHS = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}

HEADS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; run `git lfs pull` or download the file"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"BZh", "a bzip2 file; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"\x93NUMPY", "a NumPy array; a .safetensors or .pt with all tensors is needed"),
    (b"\x89HDF", "an HDF5 (Keras) file; MobileSAM's weights are .safetensors or .pt"),
    (b"GGUF", "a GGUF file; MobileSAM's weights are .safetensors or .pt"),
    (b"\x80", "a Python pickle, but not of torch.save; it is never run. In torch: torch.save(model.state_dict(), path)"),
)
"""(first bytes, what such a file is)."""


def describe_head(head: bytes) -> str:
    """What a file that begins with `head` and is in no known format seems to be."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not weights: the download went to a page that describes the file (or to a login); get the raw file"
    if text.startswith((b"{", b"[")):
        return "a JSON text, not weights: perhaps an error message of the server; get the file again"
    for start, meaning in HEADS:
        if head.startswith(start):
            return meaning
    if b"onnx" in text or (head.startswith(b"\x08") and b"pytorch" in head):
        return "an ONNX graph; MobileSAM's weights are .safetensors or .pt"
    return "a file in no known format; .safetensors or .pt (torch.save) is needed"


def _sam(shapes: Shapes) -> str:
    width = shapes.get("image_encoder.patch_embed.proj.weight", (0,))[:1]
    kind = SAM_WIDTHS.get(width[0], f"an image encoder of width {width[0]}") if width else "a plain ViT"
    return f"the original SAM with {kind}"


def _has(*patterns: str) -> Callable[[Shapes], bool]:
    def test(shapes: Shapes) -> bool:
        return all(any(re.match(pattern, name) for name in shapes) for pattern in patterns)

    return test


MODELS: tuple[tuple[Callable[[Shapes], bool], str | Callable[[Shapes], str]], ...] = (
    (_has(r"image_encoder\.trunk\.", r"sam_mask_decoder\."), "SAM 2"),
    (_has(r"(detector|tracker)\.", r".*sam_mask_decoder\."), "SAM 3"),
    (_has(r"vision_encoder\.backbone\.", r"mask_decoder\."), "SAM 2 in transformers' names"),
    (_has(r"vision_encoder\.", r"mask_decoder\."), "SAM in transformers' names"),
    (_has(r"mask_decoder\.(hf_token|compress_vit_feat)\b"), "HQ-SAM, which has more heads in its mask decoder"),
    (_has(r"image_encoder\.blocks\.\d+\.attn\.rel_pos_h$"), _sam),
    (_has(r"image_encoder\.(features|stage\d|fuse_stage\d)\b"), "EdgeSAM or RepViT-SAM, whose image encoder is a RepViT"),
    (_has(r"image_encoder\.backbone\.", r"mask_decoder\."), "EfficientViT-SAM"),
    (_has(r"image_encoder\.blocks\.\d+\."), "EfficientSAM or another SAM whose image encoder is a plain ViT"),
    (_has(r"patch_embed\.seq\.0\.c\.weight$", r"layers\.\d+\.blocks\."), "TinyViT alone, without prompts and masks"),
    (_has(r"patch_embed\.conv1\.", r"stages\.\d+\."), "TinyViT alone, in timm's names"),
    (_has(r"(model\.)*\d+\.(conv|cv1|m)\b"), "a YOLO network, as of FastSAM"),
)  # fmt: skip
"""(test on names and shapes, what the model is); the first that holds counts."""


def recognise(shapes: Shapes) -> str | None:
    """What model has tensors of these names, None where it may be MobileSAM or is of no known kind."""
    for test, meaning in MODELS:
        if test(shapes):
            return meaning if isinstance(meaning, str) else meaning(shapes)
    return None
