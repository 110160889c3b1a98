"""An explanation as one picture, drawn with matplotlib (the ``plots`` extra), imported when used."""

from __future__ import annotations

import textwrap
import warnings
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zerocon.errors import MissingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

    from zerocon.explanation import Attention, Explanation

DPI = 120
WIDTH = 12.0  # inches
LARGEST = 1000  # pixels a side of a picture on the sheet: the cells are no larger
STYLE = {"font.size": 10.0, "axes.titlesize": 10.0, "text.parse_math": False}
HEAT = "inferno"  # dark is nothing, for the difference as for attention


def require() -> None:
    """Raise ``MissingError`` if there is no matplotlib to draw with."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingError(
            'drawing needs matplotlib; get it with: pip install "zerocon[plots]"'
        ) from None


def draw(explanation: Explanation) -> Image.Image:
    """The sheet: both pictures and their difference, attention of words, losses and D by step."""
    require()
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall = min(max(explanation.source.height / explanation.source.width, 0.4), 1.6)
    curves = len(explanation.losses) + 1
    heights = [
        0.85 + 3.4 * tall,
        0.45 + (0.25 + 2.35 * tall) * len(explanation.attention),
        0.35 + 1.95 * -(-curves // 3),
    ]
    # the user's own style would change sizes that the layout counts on
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure = Figure((WIDTH, sum(heights)), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights)
        _pictures(top, explanation)
        _attention(middle, explanation)
        _curves(bottom, explanation)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _pictures(part: SubFigure, explanation: Explanation) -> None:
    left, middle, right = part.subplots(1, 3)
    source, edited = _small(explanation.source), _small(explanation.edited)
    _show(left, source, f"source: {explanation.caption}")
    _show(middle, edited, f"edited: {explanation.target_caption}")
    difference = np.abs(np.asarray(edited, float) - np.asarray(source, float)).mean(-1)
    image = _show(right, difference, "difference", cmap=HEAT, vmin=0, vmax=max(1, difference.max()))
    _bar(right, image, "mean over R, G, B, of 255")


def _attention(part: SubFigure, explanation: Explanation) -> None:
    moments, rows = explanation.moments, explanation.attention
    words = "the changed words" if explanation.changed else "the last words (none changed)"
    note = f"not shown: {', '.join(explanation.left_out)}; " if explanation.left_out else ""
    part.suptitle(
        f"Where {words} looked: the source's under the caption, the edited picture's under the "
        f"target caption\n({note}looked at again: {explanation.evaluations.forwards} evaluations, "
        "not counted in the edit)"
    )
    axes = part.subplots(len(rows), len(moments), squeeze=False)
    for cells, row in zip(axes, rows, strict=True):
        most = max(float(heat.max()) for heat in row.maps)
        for ax, moment, heat in zip(cells, moments, row.maps, strict=True):
            title = f"after step {moment.step}, noise {moment.noise:.2f}"
            image = _overlay(ax, explanation, row, np.asarray(heat), most)
            ax.set_title(title if cells is axes[0] else "")
        cells[0].set_ylabel(f'"{row.word}" in {row.side}', fontsize=11)
        _bar(cells[-1], image, "share of attention")


def _curves(part: SubFigure, explanation: Explanation) -> None:
    curves = [(f"loss of {name}", "weighted", line) for name, line in explanation.losses]
    curves.append(("difference D from the source", "|D| / |source's latents|", explanation.differences))
    cells = part.subplots(-(-len(curves) // 3), min(3, len(curves)), squeeze=False).ravel()
    for ax, (title, unit, line) in zip(cells, curves, strict=False):
        ax.plot(range(1, len(line) + 1), line, marker=".", color="tab:blue")
        ax.set(xlabel="step, from noise to picture", ylabel=unit, xlim=(0.5, len(line) + 0.5))
        ax.set_title(textwrap.fill(title, 44))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
        ax.grid(alpha=0.3)
        if all(map(isnan, line)):
            ax.text(0.5, 0.5, "did not act", transform=ax.transAxes, ha="center")
    for ax in cells[len(curves) :]:
        ax.remove()


def _overlay(
    ax: Axes, explanation: Explanation, row: Attention, heat: np.ndarray, most: float
) -> AxesImage:
    """A map over its picture in dim grey; both fill the same frame, whatever their sizes."""
    picture = _small(getattr(explanation, row.side)).convert("L")
    extent = (0, picture.width, picture.height, 0)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent)
    return _show(ax, heat, "", cmap=HEAT, alpha=0.6, vmin=0, vmax=most, extent=extent)


def _show(ax: Axes, picture: Any, title: str, **how: Any) -> AxesImage:
    ax.set(xticks=[], yticks=[])
    ax.set_title(textwrap.fill(title, 44))
    return ax.imshow(picture, **how)


def _bar(ax: Axes, image: AxesImage, unit: str) -> None:
    """A colour bar as high as the picture beside it."""
    ax.figure.colorbar(image, cax=ax.inset_axes((1.03, 0, 0.05, 1)), label=unit)


def _small(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return small
