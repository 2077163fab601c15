"""MobileSAM in explicit NumPy: a torch-free reference that ports of Segment Anything can be held against.

model = refsam.load()
predictor = refsam.SamPredictor(model)
predictor.set_image(image)                                   # (H, W, 3) uint8 RGB
masks, scores, logits = predictor.predict([[320, 240]], [1])  # a click at x 320, y 240
"""

__version__ = "0.1.0"

from refsam import checkpoint, errors, transforms
from refsam.automatic_mask_generator import SamAutomaticMaskGenerator
from refsam.errors import BackendUnavailable, CheckpointError, InputError, NotReady, RefsamError
from refsam.loading import load, sam_model_registry
from refsam.model.sam import MobileSam
from refsam.predictor import SamPredictor, trace
from refsam.tracing import Trace

__all__ = [
    "BackendUnavailable",
    "CheckpointError",
    "InputError",
    "MobileSam",
    "NotReady",
    "RefsamError",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "Trace",
    "__version__",
    "checkpoint",
    "errors",
    "load",
    "sam_model_registry",
    "trace",
    "transforms",
]
