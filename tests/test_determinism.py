"""The same bits: on every run, for any number of threads, ours or BLAS's, in whatever layout arrays come in."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from golden.cases import mask_prompt, picture
from ops.checks import backwards, misaligned
from standin import TINY, standin_weights

import refsam
from refsam import MobileSam, SamPredictor, backends, loading, transforms

ROOT = Path(__file__).parents[1]
IMAGE = picture((48, 77))
PROMPT = {"point_coords": [[30, 20], [5, 40]], "point_labels": [1, 0], "box": [10, 5, 60, 40], "mask_input": mask_prompt(16)}


each_backend = pytest.mark.parametrize("backend", ["reference", "fast"])


@cache
def model(backend: str) -> MobileSam:
    return MobileSam(standin_weights(TINY), TINY, backends.create(backend))


def digest(model: MobileSam) -> str:
    """Of the embedding and of everything that `predict` returns."""
    predictor = SamPredictor(model)
    predictor.set_image(IMAGE)
    results = (predictor.get_image_embedding(), *predictor.predict(**PROMPT), predictor.predict(return_logits=True)[0])
    return hashlib.sha256(b"".join(np.ascontiguousarray(result).tobytes() for result in results)).hexdigest()


@pytest.mark.core
@each_backend
def test_every_run_and_every_model_gives_the_same_bits(backend: str) -> None:
    another = MobileSam(standin_weights(TINY), TINY, backends.create(backend))
    assert digest(model(backend)) == digest(model(backend)) == digest(another)


def test_a_trace_that_listens_changes_nothing() -> None:
    assert digest(model("reference").traced(refsam.Trace("image_encoder.layers.*"))) == digest(model("reference"))


@pytest.mark.core
def test_a_trace_of_results_changes_nothing_on_the_fast_backend_either() -> None:
    traced = model("fast").traced(refsam.Trace("image_encoder,image_encoder.layers.1.blocks.0"))
    assert digest(traced) == digest(model("fast"))


@each_backend
def test_the_number_of_threads_asked_for_does_not_show(standin: Path, backend: str) -> None:
    digests = {digest(refsam.load(standin, backend=backend, threads=threads)) for threads in (None, 1, 2, 7)}
    assert digests == {digest(model(backend))}


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
import refsam, test_determinism
print(test_determinism.digest(refsam.load(sys.argv[3])))
"""


def test_the_number_of_blas_threads_of_the_process_does_not_show(standin: Path) -> None:
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, "-c", PROGRAM, str(ROOT), str(ROOT / "tests"), str(standin)]
    processes = []
    for threads in ("1", "2", ""):
        bare = {name: value for name, value in os.environ.items() if name not in variables}
        environment = bare | (dict.fromkeys(variables, threads) if threads else {})
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    digests = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert digests == {digest(model(loading.DEFAULT_BACKEND))}


LAYOUTS = [np.asfortranarray, backwards, misaligned, lambda x: x.astype(x.dtype.newbyteorder())]


@pytest.mark.core
@each_backend
@pytest.mark.parametrize("layout", LAYOUTS, ids=["fortran", "backwards", "misaligned", "swapped"])
def test_the_layout_of_arrays_does_not_show(layout: Callable[[np.ndarray], np.ndarray], backend: str) -> None:
    sam = model(backend)
    input_image = transforms.preprocess(IMAGE, TINY.image_size)
    features = sam.encode_image(input_image)
    np.testing.assert_array_equal(sam.encode_image(layout(input_image)), features)

    prompts = (
        (np.array([[[3.0, 4.0], [50.0, 20.0]]]), np.array([[1, 0]])),
        np.array([[1.0, 2.0, 40.0, 30.0]]),
        mask_prompt(16)[None],
    )
    sparse, dense = sam.encode_prompts(*prompts)
    again = sam.encode_prompts((layout(prompts[0][0]), layout(prompts[0][1])), layout(prompts[1]), layout(prompts[2]))
    np.testing.assert_array_equal(again[0], sparse)
    np.testing.assert_array_equal(again[1], dense)

    tensors = (features, sam.image_pe, sparse, dense)
    for once, other in zip(sam.decode_masks(*tensors), sam.decode_masks(*map(layout, tensors)), strict=True):
        np.testing.assert_array_equal(once, other)


@pytest.mark.core
@each_backend
def test_the_layout_of_the_picture_does_not_show(backend: str) -> None:
    embeddings = []
    for image in (IMAGE, np.asfortranarray(IMAGE), backwards(IMAGE), misaligned(IMAGE)):
        predictor = SamPredictor(model(backend))
        predictor.set_image(image)
        embeddings.append(predictor.get_image_embedding())
    for embedding in embeddings[1:]:
        np.testing.assert_array_equal(embedding, embeddings[0])


@pytest.mark.core
@each_backend
def test_the_layout_of_the_weights_does_not_show(backend: str) -> None:
    weights = {name: np.asfortranarray(tensor) for name, tensor in standin_weights(TINY).items()}
    assert digest(MobileSam(weights, TINY, backends.create(backend))) == digest(model(backend))
