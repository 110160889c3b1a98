"""Light, weather and style, applied to the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from zerocon.world.scene import Scene

Pixels = np.ndarray  # (size, size, 3) float32, 0 .. 255


def finish(rgb: Pixels, scene: Scene, glass: np.ndarray | None = None) -> Image.Image:
    """Apply light, weather and style; ``glass`` (0..1) is the mask of rain, None is everywhere."""
    appearance = scene.appearance
    rgb = rgb * _light_field(rgb.shape[0], *appearance.light)
    if scene.time == "rain":
        rgb = _rain(rgb, appearance.texture_seed, glass)
    rgb = _STYLES[scene.style](rgb, appearance.texture_seed)
    grain = np.random.default_rng([appearance.texture_seed, 7]).standard_normal(
        rgb.shape[:2], np.float32
    )
    rgb = rgb + (1.6 * appearance.grain) * grain[..., None]
    return Image.fromarray(np.clip(rgb + 0.5, 0, 255).astype(np.uint8))


def _light_field(size: int, turn: float, strength: float) -> Pixels:
    t = np.linspace(-1, 1, size, dtype=np.float32)
    slope = np.cos(2 * np.pi * turn) * t[None, :] + np.sin(2 * np.pi * turn) * t[:, None]
    field: Pixels = (1 + 0.06 * strength * slope)[..., None].astype(np.float32)
    return field


def _rain(rgb: Pixels, seed: int, glass: np.ndarray | None) -> Pixels:
    size = rgb.shape[0]
    fine = 2
    unit = size * fine
    veil = Image.new("L", (unit, unit))
    draw = ImageDraw.Draw(veil)
    rng = np.random.default_rng([seed, 8])
    across, down = rng.integers(0, 4, 2)  # one pattern of rain, shifted by whole steps
    for i in range(8):
        for j in range(8):
            if (i + 3 * j) % 4:
                continue
            x, y = (i + across + 0.5) % 8 / 8 * unit, (j + down + 0.5) % 8 / 8 * unit
            long = 0.085 * unit
            draw.line((x, y, x - 0.35 * long, y + long), fill=255, width=max(1, round(unit / 80)))
    amount = 0.5 * np.asarray(veil.reduce(fine), np.float32) / 255
    if glass is not None:
        amount = 1.4 * amount * glass
    wet: Pixels = rgb + (np.array([214, 226, 240], np.float32) - rgb) * amount[..., None]
    return wet


def _noise(seed: int, stream: int, cells: int, size: int, channels: int = 1) -> np.ndarray:
    """Smooth noise (size, size, channels), about -1 .. 1; the pattern scales with the size."""
    grid = np.random.default_rng([seed, stream]).uniform(-1, 1, (channels, cells, cells))
    planes = [
        np.asarray(
            Image.fromarray(g.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        )
        for g in grid
    ]
    return np.stack(planes, -1)


def _blur(rgb: Pixels, radius: float) -> Pixels:
    image = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)


def _drawing(rgb: Pixels, seed: int) -> Pixels:
    return rgb


def _pencil(rgb: Pixels, seed: int) -> Pixels:
    size = rgb.shape[0]
    gray = rgb @ np.array([0.3, 0.59, 0.11], np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) * (128 / size)
    hatch = 0.5 + 0.5 * np.sin(2 * np.pi * (x + y) / 8)
    dark = 1 - gray / 255
    paper = np.array([250, 247, 240], np.float32)
    faint = paper + (rgb - paper) * 0.42 + (rgb - gray[..., None]) * 0.32
    shade = 0.27 * dark * hatch
    line = np.zeros_like(gray)
    line[:, 1:-1] += np.abs(rgb[:, 2:] - rgb[:, :-2]).sum(-1)
    line[1:-1] += np.abs(rgb[2:] - rgb[:-2]).sum(-1)
    ink = np.clip((line * (size / 128) - 60) / 260, 0, 1)
    hatched = faint * (1 - shade[..., None])
    sketch: Pixels = hatched * (1 - 0.75 * ink[..., None]) + 30 * ink[..., None]
    return sketch


def _watercolor(rgb: Pixels, seed: int) -> Pixels:
    size = rgb.shape[0]
    unit = size / 128
    warp = _noise(seed, 10, 16, size, 2) * 1.5 * unit
    y, x = np.mgrid[0:size, 0:size]
    yy = np.clip(np.round(y + warp[..., 0]), 0, size - 1).astype(np.intp)
    xx = np.clip(np.round(x + warp[..., 1]), 0, size - 1).astype(np.intp)
    soft = _blur(rgb[yy, xx], 0.9 * unit)
    wide = _blur(soft, 3.5 * unit)
    pigment = 1 + 0.1 * _noise(seed, 11, 12, size)
    wash = 255 - (255 - soft) * 0.74 * pigment
    wash = wash + 0.25 * (soft - wide)  # pigment accumulates at the edge of a wash
    t = np.abs(np.linspace(-1, 1, size, dtype=np.float32))
    rim = np.maximum(t[:, None], t[None, :]) + 0.05 * _noise(seed, 12, 10, size)[..., 0]
    dry = np.clip((rim - 0.9) / 0.05, 0, 1)[..., None]
    result: Pixels = wash + (np.array([252, 249, 243], np.float32) - wash) * dry
    return result


def _pixel_art(rgb: Pixels, seed: int) -> Pixels:
    size = rgb.shape[0]
    blocks = max(1, size // 4) if size < 128 else 32
    step = size / blocks
    edges = np.round(np.arange(blocks + 1) * step).astype(int)
    sums = np.add.reduceat(np.add.reduceat(rgb, edges[:-1], 0), edges[:-1], 1)
    count = np.diff(edges)
    mean = sums / (count[:, None, None] * count[None, :, None])
    mean = np.clip(128 + (mean - 128) * 1.05, 0, 255)
    mean = np.round(mean / 255 * 13) / 13 * 255
    return np.repeat(np.repeat(mean, count, 0), count, 1)


def _mosaic(rgb: Pixels, seed: int) -> Pixels:
    """Square tiles on a fixed grid, each with a random tone, and grout between them."""
    size = rgb.shape[0]
    tiles = 16
    tone = np.random.default_rng([seed, 13]).uniform(0.86, 1.1, (tiles, tiles)).astype(np.float32)
    t = (np.arange(size, dtype=np.float32) + 0.5) * tiles / size
    cell = t.astype(np.intp)
    edge = 0.5 - np.abs(t - cell - 0.5)  # 0 at a seam, 0.5 in the middle of a tile
    seam = np.clip(1.5 - 9 * np.minimum(edge[:, None], edge[None, :]), 0, 1)[..., None]
    tiled: Pixels = rgb * tone[cell[:, None], cell[None, :], None]
    grout = np.array([206, 200, 188], np.float32)
    tiled += (grout - tiled) * 0.5 * seam
    return tiled


_STYLES: dict[str, Callable[[Pixels, int], Pixels]] = {
    "drawing": _drawing,
    "pencil sketch": _pencil,
    "watercolor": _watercolor,
    "pixel art": _pixel_art,
    "mosaic": _mosaic,
}
