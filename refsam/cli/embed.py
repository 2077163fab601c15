"""`refsam embed`: encode a picture once, for many runs of `refsam segment --embedding`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, print_json, printable, progress
from refsam.cli.model import ModelOptions, describe
from refsam.cli.results import check_tensors
from refsam.embedding import Embedding
from refsam.images import read_image
from refsam.predictor import SamPredictor

Out = Annotated[Path | None, Parameter(help="The .safetensors file (default: NAME.embedding.safetensors, current folder).")]


def embed(image: Path, /, *, out: Out = None, model: ModelOptions | None = None, as_json: JsonFlag = False) -> int:
    """Save the image embedding of IMAGE. It serves only with the same weights, picture and dtype; others are refused."""
    options = model or ModelOptions()
    target = out or Path(f"{image.stem}.embedding.safetensors")
    check_tensors(target, [image, *options.inputs()])
    with progress("embed", unit="steps") as advance:
        advance(0, 3)
        picture = read_image(image)
        advance(1, 3)
        predictor = SamPredictor(options.load())
        advance(2, 3)
        predictor.set_image(picture)
        advance(3, 3)
    embedding = Embedding.of(predictor, picture)
    embedding.save(target)
    if as_json:
        made = {"shape": embedding.features.shape, "original_size": embedding.original_size, "input_size": predictor.input_size}
        print_json(
            {
                "embedding": target,
                "image": image,
                "image_sha256": embedding.image_sha256,
                **describe(predictor.model, options),
                **made,
            }
        )
    else:
        print(f"wrote {printable(target)}: image_embeddings {tuple(embedding.features.shape)} {embedding.features.dtype}")
    return OK
