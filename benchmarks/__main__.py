"""Times preprocessing, encoder, decoder and postprocessing of the backends.  Run: make bench, or python -m benchmarks --help.

Rounds are interleaved: each round runs every row once, so that a slow moment of the machine hits all rows alike. Compare rows of
one run with each other, never with those of another run or machine.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_info

import refsam
from refsam import transforms


def main() -> None:
    """Print a table, or JSON rows with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="demo", help="a path, 'mobile_sam' or 'demo'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times = measure(rows(arguments.weights), arguments.rounds)
    if arguments.json:
        print(json.dumps([{"machine": machine(), "row": name, "seconds": values} for name, values in times.items()]))
        return
    print(machine())
    for name, values in times.items():
        spread = f"{1000 * min(values):9.1f} to {1000 * max(values):9.1f}"
        print(f"{name:42}{1000 * statistics.median(values):9.1f} ms   ({spread})")


def rows(weights: str) -> dict[str, Callable[[], object]]:
    """Name -> what to time, for a picture of 1024 x 768 and one of 12 megapixels."""
    image, large = (np.random.default_rng(0).integers(0, 256, size, np.uint8) for size in ((768, 1024, 3), (3024, 4032, 3)))
    result: dict[str, Callable[[], object]] = {}
    for dtype in ("float32", "float64"):
        model = refsam.load(weights, dtype=dtype)
        predictor = refsam.SamPredictor(model)
        predictor.set_image(image)
        side = model.config.image_size
        input_image = transforms.preprocess(image, side)
        features, sparse_dense = predictor.get_image_embedding(), model.encode_prompts(boxes=np.array([[9.0, 9.0, 99.0, 99.0]]))
        name = f"{weights} reference {dtype}"
        result[f"{name}: encode_image"] = lambda m=model, x=input_image: m.encode_image(x)
        result[f"{name}: decode_masks"] = lambda m=model, f=features, p=sparse_dense: m.decode_masks(f, m.image_pe, *p)
        result[f"{name}: predict at 1024 x 768"] = lambda p=predictor: p.predict(box=[99, 99, 500, 400])
    sizes = transforms.resized_size(large.shape[:2], side), large.shape[:2]
    logits = np.random.default_rng(0).normal(0, 5, (1, 3, side // 4, side // 4)).astype(np.float32)
    result["preprocess 12 MP"] = lambda: transforms.preprocess(large, side)
    result["postprocess_masks 3 x 12 MP"] = lambda: transforms.postprocess_masks(logits, *sizes, side)
    return result


def measure(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each row in each round, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def machine() -> str:
    """What ran, in one line."""
    blas = ", ".join(f"{x['internal_api']} {x.get('version')} {x.get('architecture', '')}" for x in threadpool_info())
    return (
        f"refsam {refsam.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {platform.machine()}; {blas}"
    )


if __name__ == "__main__":
    main()
