"""Which model functions the fast backend replaces."""

from collections.abc import Callable
from typing import Any, TypeVar

from refsam.scope import qualified_name

F = TypeVar("F", bound=Callable[..., Any])

REPLACEMENTS: dict[str, Callable[..., Any]] = {}
"""Name of a model function -> what runs in its place, with the workers as first argument."""


def replaces(definition: Callable[..., Any]) -> Callable[[F], F]:
    """Decorates the replacement of `definition`: the same arguments and results, after the workers."""

    def register(replacement: F) -> F:
        REPLACEMENTS[qualified_name(definition)] = replacement
        return replacement

    return register
