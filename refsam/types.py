"""Array types. Shapes stand in the annotations; tests check them at run time with jaxtyping and beartype.

The dimension alphabet. A letter that it lacks, or a small one, is a size of the function's own:

    B   prompts or images in a batch       S   side of the padded square input, in pixels (1024)
    C   channels                           E   side of the image embedding, S / 16 (64)
    H W height and width of a feature map  L   side of the mask logits, S / 4 (256)
    N   tokens or points                   D   width of the prompt embedding (256)
    K   heads                              M   masks per prompt (1 or 3)
                                           T   a second count of tokens: keys, prompt tokens, pixels (E * E)
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
else:
    Array = np.ndarray

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, UInt8
else:
    # Who checks shapes at run time has imported jaxtyping before. Others need not wait: its import takes as long as NumPy's.
    class Float:
        """Stands for an array whose dtype and shape nobody checks."""

        def __class_getitem__(cls, annotated: tuple[Any, str]) -> Any:
            return annotated[0]

    Bool = Int = UInt8 = Float

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the amount done so far and the amount in all, None where that is not known."""

__all__ = ["Array", "Bool", "Float", "Int", "Progress", "Size", "UInt8"]
