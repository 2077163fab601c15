"""Makes tests/verify/ports/data/onnx.zip; needs the `peer` extra and onnx.  Run: python tests/verify/ports/make_onnx.py

The decoders are upstream's own SamOnnxModel, exported as scripts/export_onnx_model.py does it.
"""

import io
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3])]

import torch  # noqa: E402
from mobile_sam.utils.onnx import SamOnnxModel  # noqa: E402
from peer import upstream  # noqa: E402
from verify.ports.onnx_pair import ARCHIVE, CONFIG, weights  # noqa: E402

POINTS = {1: "points"}


def exported(module: torch.nn.Module, feeds: dict[str, torch.Tensor], results: list[str], axes: dict[str, Any]) -> bytes:
    """The module as one ONNX file."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are constants here
        torch.onnx.export(
            module.eval(), tuple(feeds.values()), file, input_names=list(feeds), output_names=results, dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip
    return file.getvalue()


def decoder_feeds() -> dict[str, torch.Tensor]:
    """Upstream's dummy inputs at this size."""
    grid, mask = CONFIG.embedding_size, CONFIG.mask_size
    return {
        "image_embeddings": torch.randn(1, CONFIG.prompt_embed_dim, grid, grid),
        "point_coords": torch.full((1, 5, 2), 7.0),
        "point_labels": torch.ones(1, 5),
        "mask_input": torch.randn(1, 1, mask, mask),
        "has_mask_input": torch.ones(1),
        "orig_im_size": torch.tensor([98.0, 150.0]),
    }


def main() -> None:
    """Write the archive."""
    sam = upstream(CONFIG, weights())
    side, points = CONFIG.image_size, {"point_coords": POINTS, "point_labels": POINTS}
    masks = ["masks", "iou_predictions", "low_res_masks"]
    files = {
        "encoder.onnx": exported(sam.image_encoder, {"images": torch.zeros(1, 3, side, side)}, ["image_embeddings"], {}),
        "decoder.onnx": exported(SamOnnxModel(sam, return_single_mask=False), decoder_feeds(), masks, points),
        "single.onnx": exported(SamOnnxModel(sam, return_single_mask=True), decoder_feeds(), masks, points),
    }
    ARCHIVE.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED, 9)
    print({name: len(content) for name, content in files.items()}, ARCHIVE.stat().st_size)


if __name__ == "__main__":
    main()
