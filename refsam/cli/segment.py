"""`refsam segment`: from a picture and prompts to masks, in the forms that people and programs take."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from refsam.cli.common import OK, JsonFlag, print_json, printable, progress
from refsam.cli.model import ModelOptions, describe
from refsam.cli.prompts import Boxes, MaskFile, Points, Prompt, PromptFile, collect
from refsam.cli.results import Outputs, Result, candidate_summary, candidate_table
from refsam.embedding import Embedding
from refsam.images import read_image
from refsam.predictor import SamPredictor
from refsam.types import Array, UInt8

Multimask = Annotated[
    bool, Parameter(name="--multimask", negative="--single", help="Three candidates of each prompt, or a single mask.")
]
EmbeddingFile = Annotated[Path | None, Parameter(name="--embedding", help="What refsam embed wrote for this picture.")]


def segment(
    image: Path,
    /,
    *,
    point: Points | None = None,
    box: Boxes | None = None,
    mask: MaskFile = None,
    prompts: PromptFile = None,
    multimask: Multimask = True,
    embedding: EmbeddingFile = None,
    model: ModelOptions | None = None,
    outputs: Outputs | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Find what the prompts point at in IMAGE.

    Of each prompt the best-scored candidate is drawn and written. With neither an output option nor --json, the picture
    with the masks drawn onto it goes to NAME.refsam.png in the current folder.
    """
    options, wanted = model or ModelOptions(), outputs or Outputs()
    asked = collect(point or [], box or [], mask, prompts)
    inputs = [image, embedding, prompts, *(prompt.mask for prompt in asked), *options.inputs()]
    targets = wanted.paths(image, len(asked), default=not as_json, inputs=[path for path in inputs if path is not None])
    with progress("segment", unit="steps") as advance:
        advance(0, len(asked) + 3)
        picture = read_image(image)
        advance(1, None)
        predictor = SamPredictor(options.load())
        size = (picture.shape[0], picture.shape[1])
        questions = [(prompt, prompt.predict_kwargs(predictor.model.config, size)) for prompt in asked]  # checked before any work
        advance(2, None)
        _set_image(predictor, picture, embedding)
        advance(3, None)
        results = _predict(predictor, questions, multimask, lambda done: advance(3 + done, None))
        targets.write(image, picture, results)
    document = {
        "image": {"path": image, "height": picture.shape[0], "width": picture.shape[1]},
        **describe(predictor.model, options),
        "prompts": [candidate_summary(result) for result in results],
        "files": targets.listed(),
    }
    if as_json:
        print_json(document)
    else:
        candidate_table(results)
        for path in targets.all():
            print(f"wrote {printable(path)}")
    return OK


def _set_image(predictor: SamPredictor, picture: UInt8[Array, "H W 3"], embedding: Path | None) -> None:
    if embedding is None:
        predictor.set_image(picture)
    else:
        Embedding.load(embedding).give_to(predictor, picture)


def _predict(
    predictor: SamPredictor, questions: Sequence[tuple[Prompt, dict[str, Any]]], multimask: bool, advance: Callable[[int], None]
) -> list[Result]:
    """The answers to prompts with their arguments of `SamPredictor.predict`, one after another."""
    results = []
    for prompt, arguments in questions:
        results.append(Result.of(prompt, *predictor.predict(**arguments, multimask_output=multimask)))
        advance(len(results))
    return results
