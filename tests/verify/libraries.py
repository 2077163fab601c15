"""One picture as libraries resize it, frozen by `make_resizes.py`, and what that is called."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from refsam.verify.preprocessed import diagnose_preprocessed

RESIZES = {
    "cv2 LINEAR": ("no antialias, in fixed point",),
    "cv2 LINEAR_EXACT": ("no antialias",),
    "cv2 AREA": ("area resize",),
    "cv2 CUBIC": ("bicubic resize, no antialias",),
    "cv2 LANCZOS4": ("Lanczos resize, no antialias",),
    "cv2 NEAREST": ("nearest resize",),
    "cv2 NEAREST_EXACT": ("nearest resize at centres",),
    "PIL BILINEAR": (),
    "PIL BICUBIC": ("bicubic resize",),
    "PIL LANCZOS": ("Lanczos resize",),
    "PIL BOX": ("box resize",),
    "PIL HAMMING": ("Hamming resize",),
    "PIL NEAREST": ("nearest resize at centres",),
    "torchvision uint8": ("rounded once",),
    "torchvision uint8 no antialias": ("no antialias",),
    "torchvision float": ("resized without rounding",),
    "torchvision float no antialias": ("no antialias", "resized without rounding"),
    "torch bilinear": ("no antialias", "resized without rounding"),
    "torch bicubic": ("bicubic resize, no antialias", "resized without rounding"),
    "torch area": ("area resize of whole pixels", "resized without rounding"),
    "torch nearest": ("nearest resize",),
    "torch align_corners": ("align_corners resize", "resized without rounding"),
    "larger cv2 LINEAR": ("no antialias, in fixed point",),
    "larger PIL BILINEAR": (),
    "larger torchvision uint8": ("rounded once",),
    "larger torch bilinear": ("resized without rounding",),
}
"""What libraries do (`make_resizes.py`), and what it is called."""


def frozen() -> Mapping[str, np.ndarray]:
    """The results by "library way", with the picture and the versions."""
    return dict(np.load(Path(__file__).parent / "data" / "resizes.npz"))


def table() -> Iterable[str]:
    """What is said of each of them."""
    results = frozen()
    yield f"By {', '.join(results['versions'])}: their own results, frozen. Left: the greatest difference, in grey levels."
    yield from ("", "| result | named | explains | left |", "|---|---|--:|--:|")
    for way in RESIZES:
        found = diagnose_preprocessed(results[way], results["picture"], "transforms.resized")
        why = found.explanation
        named = "holds" if why is None else " + ".join(why.names) or "none"
        yield f"| {way} | {named} | {'' if why is None else f'{100 * why.explained:.1f} %'} | {found.left.max:.1g} |"
