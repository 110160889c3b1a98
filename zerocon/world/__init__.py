"""A drawn world in which the exact result of every edit is known.

A scene is a small frozen value; its image, caption, masks and edits are pure functions of it. NumPy
and Pillow only.
"""

from zerocon.world.captions import caption, phrase
from zerocon.world.counterfactuals import edits
from zerocon.world.rendering import edges, labels, masks, render
from zerocon.world.scene import (
    ACCESSORIES,
    COLORS,
    COMPANIONS,
    KINDS,
    PLACES,
    STYLES,
    TEST,
    TIMES,
    TRAIN,
    VALIDATION,
    VALUES,
    Scene,
    dress,
    sample,
    truth,
)

__all__ = [
    "ACCESSORIES",
    "COLORS",
    "COMPANIONS",
    "KINDS",
    "PLACES",
    "STYLES",
    "TEST",
    "TIMES",
    "TRAIN",
    "VALIDATION",
    "VALUES",
    "Scene",
    "caption",
    "dress",
    "edges",
    "edits",
    "labels",
    "masks",
    "phrase",
    "render",
    "sample",
    "truth",
]
