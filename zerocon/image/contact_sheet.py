"""Contact sheets: labeled images in a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont


def sheet(images: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """Images in a grid of ``columns`` columns, each with its label below, shortened to fit."""
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    font = ImageFont.load_default(max(10, width // 24))
    strip = round(1.8 * max(10, width // 24))
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * width, rows * (height + strip)), "white")
    draw = ImageDraw.Draw(page)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        x, y = index % columns * width, index // columns * (height + strip)
        page.paste(image, (x, y))
        text = _shortened(label, lambda text: draw.textlength(text, font) <= width - 8)
        draw.text((x + width / 2, y + height + strip / 2), text, "black", font, anchor="mm")
    return page


def _shortened(label: str, fits: Callable[[str], bool]) -> str:
    if fits(label):
        return label
    lengths = (n for n in range(len(label), 0, -1) if fits(label[:n].rstrip() + "..."))
    return label[: next(lengths, 0)].rstrip() + "..."
