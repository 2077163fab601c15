"""The whole encoder, as the definition composes it. Only what helper processes need is added: memory that they see, for the
picture and all results on the way, and a copy of the embedding, since that memory is used again.
"""

import inspect

from refsam.backends.fast.registry import replaces
from refsam.backends.fast.workers import Workers
from refsam.config import Config
from refsam.model import tiny_vit as definition
from refsam.scope import Scope
from refsam.types import Array, Float


@replaces(definition.tiny_vit)
def tiny_vit(workers: Workers, s: Scope, x: Float[Array, "B 3 S S"], config: Config) -> Float[Array, "B D E E"]:
    """See tiny_vit.tiny_vit."""
    composed = inspect.unwrap(definition.tiny_vit)
    with workers.sharing() as shared:
        embedding = composed(s, workers.seen(x), config)
        return embedding.copy() if shared else embedding
