"""Outcomes of ports of the tiny model: one that holds, and some that do not."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from standin import TINY
from verify.mistaken import cases, run, tiny

from refsam.verify import Case, Outcome, verify
from refsam.verify.hypotheses import known
from refsam.verify.pipeline import Pipeline

Arrays = dict[str, np.ndarray]


@dataclass
class Mistaken:
    """A port with known mistakes, and whatever else is done to what it shows."""

    name: str
    mistakes: tuple[str, ...] = ()
    spoil: Callable[[Arrays], Arrays] = lambda shown: shown
    precision: str = "float32"
    notes: tuple[str, ...] = ()

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, np.ndarray]:
        pipeline = Pipeline()
        for hypothesis in known():
            if hypothesis.name in self.mistakes:
                pipeline = hypothesis.apply(pipeline)
        return self.spoil(dict(run(pipeline, case, tiny())))


def outcome(port: Mistaken, picture: str = "photo", explain: bool = True) -> Outcome:
    """The port on the usual case."""
    return next(verify(port, tiny(), [replace(cases(TINY)["points"], name=picture)], explain=explain))


def few(*stages: str) -> Outcome:
    """A port that holds and shows no more than these."""
    return outcome(Mistaken("few", spoil=lambda shown: {name: shown[name] for name in stages}))


@cache
def clean() -> Outcome:
    return outcome(Mistaken("clean"))


@cache
def app() -> Outcome:
    """As the iOS app prepares its pictures."""
    return outcome(Mistaken("app", ("no antialias, no half pixel", "padding in the index")))


@cache
def scaled_neck() -> Outcome:
    """A fault that no hypothesis names."""

    def spoil(shown: Arrays) -> Arrays:
        right = shown["image_encoder.neck.1"]
        factors = 1 + 0.02 * np.random.RandomState(0).uniform(size=right.shape)  # no tensor has one for each place
        return {**shown, "image_encoder.neck.1": (right * factors).astype(np.float32)}

    return outcome(Mistaken("neck", spoil=spoil))
