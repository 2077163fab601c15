"""Which input of a package is which. Ports call them what they like: axes decide where they can, then words, then the order."""

import re
from collections.abc import Mapping, Sequence

from refsam.coreml.export import Part
from refsam.coreml.types import Feature
from refsam.errors import InputError

ROLES: dict[Part, tuple[str, ...]] = {
    "image_encoder": ("image",),
    "prompt_encoder": ("points", "labels"),
    "mask_decoder": ("image_embeddings", "image_pe", "sparse", "dense"),
}
"""What each part is given, in the order of the article's conversion, upstream's mask decoder and all ports that are known."""

_AXES = {"points": 3, "labels": 2, "sparse": 3}
"""Roles that no other input of their part has as many axes as."""

_WORDS = {"labels": ("label",), "image_pe": ("pe", "pos", "position", "point"), "dense": ("dense",), "sparse": ("sparse",)}
"""How words in a name begin ("pe" and "pos": whole words). Names are given away in this order, so "dense_pe" is image_pe."""


def part_of(path: str, features: Sequence[Feature]) -> Part:
    """Which part has so many inputs. Raises InputError where none has."""
    for part, roles in ROLES.items():
        if len(roles) == len(features):
            return part
    names = [feature.name for feature in features]
    raise InputError(f"{path} has the inputs {names}; an encoder has one, a prompt encoder two, a mask decoder four")


def roles_of(part: Part, features: Sequence[Feature]) -> Mapping[str, str]:
    """Role -> the input's name, in the order of ROLES; as many inputs as the part has roles.

    An input has a role where it alone has that many axes, or where it alone of those that are left has a word of it. What
    neither tells goes by the order.
    """
    left = {feature.name: len(feature.shape) for feature in features}
    found: dict[str, str] = {}

    def give(role: str, names: list[str]) -> None:
        if role in ROLES[part] and role not in found and len(names) == 1:
            found[role] = names[0]
            del left[names[0]]

    for role, axes in _AXES.items():
        give(role, [name for name, count in left.items() if count == axes])
    for role, words in _WORDS.items():
        give(role, [name for name in left if _has(name, words)])
    rest = iter(list(left))
    return {role: found[role] if role in found else next(rest) for role in ROLES[part]}


def _has(name: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words is in a name such as imagePointEmbeddings, image_pe or imagePE."""
    own = [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    return any(mine == word or (len(word) > 3 and mine.startswith(word)) for mine in own for word in words)
