"""Explain sheets and curves as images; the only user of matplotlib, imported on demand."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from io import BytesIO
from math import isnan
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zerocon.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import SubFigure

    from zerocon.diagnostics.explanation import Explanation

DPI = 120
WIDTH = 12.0  # inches
LARGEST = 1000  # pixels per side of an image on the sheet, as its cells
STYLE = {"font.size": 10.0, "axes.titlesize": 10.0, "text.parse_math": False}
DRAWING = Lock()  # matplotlib's style is global to all threads
HEAT = "inferno"  # dark is zero


def require() -> None:
    """Raise ``MissingPackageError`` if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "drawing needs matplotlib, which is not installed: pip install matplotlib"
        ) from None


def draw(explanation: Explanation) -> Image.Image:
    """The explain sheet: both images, their difference, attention maps, losses and |D| by step."""
    require()
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    tall = min(max(explanation.source.height / explanation.source.width, 0.4), 1.6)
    curves = len(explanation.losses) + 1
    heights = [
        0.75 + 3.45 * tall,
        0.85 + (0.1 + 2.55 * tall) * len(explanation.attention),
        0.15 + 2.2 * -(-curves // 3),
    ]
    # the user's style would change sizes that the layout depends on
    with DRAWING, style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
        figure = Figure((WIDTH, sum(heights)), dpi=DPI, layout=layout)
        rows = figure.add_gridspec(3, 1, height_ratios=heights)
        top, middle, bottom = (figure.add_subfigure(rows[row, 0]) for row in range(3))
        _images(top, explanation)
        _attention(middle, explanation)
        _curves(bottom, explanation)
        figure.savefig(page := BytesIO(), format="png")
    return Image.open(page).convert("RGB")


def draw_curve(values: Sequence[float], *, x: str, y: str) -> Image.Image:
    """A curve of ``values`` over 1, 2, ..., with the labels of both axes."""
    require()
    from matplotlib import style
    from matplotlib.figure import Figure

    with DRAWING, style.context(["default", STYLE]):
        figure = Figure((WIDTH / 2, WIDTH / 4), dpi=DPI, layout="constrained")
        ax = figure.add_subplot()
        ax.plot(range(1, len(values) + 1), values, color="tab:blue")
        ax.set(xlabel=x, ylabel=y, xlim=(1, max(2, len(values))), ylim=(0, None))
        ax.grid(alpha=0.3)
        figure.savefig(page := BytesIO(), format="png")
    return Image.open(page).convert("RGB")


def _images(part: SubFigure, explanation: Explanation) -> None:
    axes = part.subplots(1, 4 if explanation.mask else 3)
    source, edited = _small(explanation.source), _small(explanation.edited)
    difference = np.abs(np.asarray(edited, float) - np.asarray(source, float)).mean(-1)
    axes[0].imshow(source)
    axes[1].imshow(edited)
    image = axes[2].imshow(difference, cmap=HEAT, vmin=0, vmax=max(1, difference.max()))
    _bar(axes[2], image, "mean of R, G, B (0..255)")
    titles = [f"source: {explanation.caption}", f"edited: {explanation.target_caption}"]
    titles.append("difference")
    if explanation.mask:
        axes[3].imshow(_small(explanation.mask), cmap="gray", vmin=0, vmax=255)
        titles.append(f"support: {explanation.support}")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(xticks=[], yticks=[])
        ax.set_title(textwrap.fill(title, 138 // len(titles)))


def _attention(part: SubFigure, explanation: Explanation) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    snapshots, rows = explanation.snapshots, explanation.attention
    words = "changed words" if explanation.changed else "last words, since none changed"
    omitted = f"; not shown: {', '.join(explanation.omitted)}" if explanation.omitted else ""
    cost = f"{explanation.evaluations.forwards} more U-Net evaluations"
    part.suptitle(textwrap.fill(f"Attention of the {words} ({cost}{omitted})", 120))
    axes = part.subplots(len(rows), len(snapshots), squeeze=False)
    for ax, snapshot in zip(axes[0], snapshots, strict=True):
        ax.set_title(f"after step {snapshot.step}, noise level {snapshot.noise:.2f}")
    for cells, row in zip(axes, rows, strict=True):
        heats = np.stack([heat.numpy() for heat in row.maps])
        scale = Normalize(heats.min(), heats.max())
        for ax, heat in zip(cells, heats, strict=True):
            _overlay(ax, _small(getattr(explanation, row.side)), heat, scale)
        cells[0].set_ylabel(f'"{row.word}"\n{row.side}', fontsize=11, multialignment="center")
        _bar(cells[-1], ScalarMappable(scale, HEAT), f"attention (uniform: {row.uniform:.3g})")


def _curves(part: SubFigure, explanation: Explanation) -> None:
    curves = [(f"loss of {name}", "weighted loss", line) for name, line in explanation.losses]
    unit = "|D| / |source latents|"
    curves.append(("latent difference D to the source", unit, explanation.differences))
    cells = part.subplots(-(-len(curves) // 3), min(3, len(curves)), squeeze=False).ravel()
    for ax, (title, unit, line) in zip(cells, curves, strict=False):
        ax.plot(range(1, len(line) + 1), line, marker=".", color="tab:blue")
        ax.set(xlabel="denoising step", ylabel=unit, xlim=(0.5, len(line) + 0.5))
        ax.set_title(textwrap.fill(title.replace(",", ", "), 44))
        ax.xaxis.get_major_locator().set_params(integer=True)
        if not any(value < 0 for value in line):
            ax.update_datalim([(1, 0)])  # so that the margin above is a share of the whole axis
            ax.autoscale_view()
            ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        if all(map(isnan, line)):
            ax.text(0.5, 0.5, "not applied", transform=ax.transAxes, ha="center")
    for ax in cells[len(curves) :]:
        ax.remove()


def _overlay(ax: Axes, image: Image.Image, heat: np.ndarray, scale: Normalize) -> None:
    """A map over its image in dark gray; both are drawn with the same extent."""
    extent = (0, image.width, image.height, 0)
    ax.set(xticks=[], yticks=[])
    ax.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=2 * 255, extent=extent)
    ax.imshow(heat, cmap=HEAT, norm=scale, alpha=0.65, extent=extent)


def _bar(ax: Axes, values: ScalarMappable, unit: str) -> None:
    """A color bar of the height of the image."""
    ax.figure.colorbar(values, cax=ax.inset_axes((1.03, 0, 0.05, 1)), label=unit)


def _small(image: Image.Image) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return small
