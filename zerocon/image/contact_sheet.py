"""Contact sheets: labeled images in a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

LINES = 3  # of a label, at most
SMALLEST_FONT = 10  # pixels


def sheet(
    images: Sequence[Image.Image | None],
    labels: Sequence[str],
    columns: int,
    *,
    title: str = "",
    gap: int = 0,
) -> Image.Image:
    """Images in a grid of ``columns`` columns, each with its label below, wrapped to fit.

    Args:
        images: Row by row; None leaves a cell empty.
        labels: One for each image.
        columns: Number of columns.
        title: Lines of text above the grid, each wrapped too.
        gap: Pixels between the cells and around them.
    """
    sizes = [image.size for image in images if image is not None]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    size = max(SMALLEST_FONT, width // 20)
    font, spacing = ImageFont.load_default(size), round(1.3 * size)

    def wrapped(text: str, width: int) -> list[str]:
        return _wrapped(text, lambda part: font.getlength(part) <= width - 8)

    texts = [wrapped(label, width) for label in labels]
    heading = [line for part in title.splitlines() for line in wrapped(part, columns * width)]
    top = len(heading) * spacing + (size // 2 if heading else 0)
    strip = max(map(len, texts)) * spacing + round(0.5 * size)
    across, down = width + gap, height + strip + gap
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (gap + columns * across, top + gap + rows * down), "white")
    draw = ImageDraw.Draw(page)
    _write(draw, heading, (page.width / 2, (gap + top) / 2), font, spacing)
    for index, (image, text) in enumerate(zip(images, texts, strict=True)):
        x, y = gap + index % columns * across, top + gap + index // columns * down
        if image is not None:
            page.paste(image, (x + (width - image.width) // 2, y + height - image.height))
        _write(draw, text, (x + width / 2, y + height + strip / 2), font, spacing)
    return page


def _write(
    draw: ImageDraw.ImageDraw,
    text: Sequence[str],
    center: tuple[float, float],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    spacing: int,
) -> None:
    """Lines of text around a point."""
    x, y = center[0], center[1] - spacing * (len(text) - 1) / 2
    for number, part in enumerate(text):
        draw.text((x, y + number * spacing), part, "black", font, anchor="mm")


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text in at most ``LINES`` lines; what is too long is cut off."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if fits(longer) or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > LINES:
        lines[LINES - 1 :] = [" ".join(lines[LINES - 1 :])]
    return [_shortened(each, fits) for each in lines]


def _shortened(label: str, fits: Callable[[str], bool]) -> str:
    if fits(label):
        return label
    lengths = (n for n in range(len(label), 0, -1) if fits(label[:n].rstrip() + "..."))
    return label[: next(lengths, 0)].rstrip() + "..."
