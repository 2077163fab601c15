"""The model's path as groups of stages, from picture to mask."""

import re

INPUT = "input"

GROUPS: tuple[tuple[str, str], ...] = (
    (INPUT, r"transforms\.resized|input_image"),
    ("patch embed", r"image_encoder\.patch_embed"),
    ("layer 0", r"image_encoder\.layers\.0"),
    ("layer 1", r"image_encoder\.layers\.1"),
    ("layer 2", r"image_encoder\.layers\.2"),
    ("layer 3", r"image_encoder\.layers\.3"),
    ("neck", r"image_encoder"),
    ("prompts", r"transforms\.(point_coords|boxes)|prompt_encoder"),
    ("two-way 0", r"mask_decoder\.transformer\.layers\.0"),
    ("two-way 1", r"mask_decoder\.transformer\.layers\.1"),
    ("decoder", r"mask_decoder"),
    ("result", r"low_res_masks|iou_predictions|masks"),
)
"""(name, pattern that a stage of the group begins with), from picture to mask; the first that fits counts."""

OTHER = "other"


def group_of(stage: str) -> str:
    """The name of the group that a stage belongs to."""
    return next((name for name, pattern in GROUPS if re.match(rf"(?:{pattern})(?:\.|$)", stage)), OTHER)
