"""Two backends in turn in one process, call after call: `python -m benchmarks.in_turn fast processes [--rounds 14]`.

`refsam bench` gives every contender a process of its own and a rest before each sample, as a program has that segments now and
then. This is how a backend does in a loop. Of the encoder and of 64 prompts, on the weights that `refsam bench` takes by default.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import refsam
from benchmarks import command, inputs
from refsam import MobileSam

PROMPTS = 64


def in_turn(runs: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median of each run's seconds, the first round left out."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for run, taken in zip(runs, seconds, strict=True):
            start = perf_counter()
            run()
            taken.append(perf_counter() - start)
    return [median(taken[1:]) for taken in seconds]


def work(model: MobileSam) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    side = model.config.image_size
    image, (coords, labels) = inputs.input_image(side), inputs.points(PROMPTS, side)
    features, prompts = model.encode_image(image), model.encode_prompts((coords, labels.astype(int)))
    return {
        "encoder": lambda: model.encode_image(image),
        f"{PROMPTS} prompts": lambda: model.decode_masks(features, model.image_pe, *prompts),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs=2)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", help="as for refsam bench")
    args = parser.parse_args()
    path = command.weights_file(args.weights)
    works = [work(refsam.load(path, backend=name, threads=args.threads)) for name in args.backends]
    for name in works[0]:
        one, other = in_turn([each[name] for each in works], args.rounds)
        print(f"{name}: {args.backends[1]} / {args.backends[0]} = {other / one:.2f} ({other:.3f} s, {one:.3f} s)", flush=True)


if __name__ == "__main__":
    main()
