"""A drawn world in which the exact result of every edit is known.

A scene is a small frozen value; its image, caption, masks and edits are pure functions of it. NumPy
and Pillow only.
"""

from zerocon.world.captions import caption, phrase
from zerocon.world.counterfactuals import edits
from zerocon.world.rendering import CLASSES, classes, edges, labels, masks, render
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
    recolored,
    sample,
    truth,
)

__all__ = [
    "ACCESSORIES",
    "CLASSES",
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
    "classes",
    "dress",
    "edges",
    "edits",
    "labels",
    "masks",
    "phrase",
    "recolored",
    "render",
    "sample",
    "truth",
]
