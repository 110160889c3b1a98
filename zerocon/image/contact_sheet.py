"""Contact sheets: labeled images in a grid, and pages of images with text next to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from zerocon.storage.escaping import one_line

LONGEST = 1000  # characters of a text: more than fit
LINES = 3  # of a label, at most
SMALLEST_FONT = 10  # pixels
CELL, TEXT, GAP = 320, 460, 20  # pixels: side of an image on a page, width of its text, and between
BODY, LINE = 17, 24  # height of a page's letters and lines
GRAY, PALE = "#606060", "#d0d0d0"

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


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
    font: Font,
    spacing: int,
) -> None:
    """Lines of text around a point."""
    x, y = center[0], center[1] - spacing * (len(text) - 1) / 2
    for number, part in enumerate(text):
        draw.text((x, y + number * spacing), part, "black", font, anchor="mm")


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text in at most ``LINES`` lines; what is too long is cut off."""
    lines = _filled(text, fits)
    if len(lines) > LINES:
        lines[LINES - 1 :] = [" ".join(lines[LINES - 1 :])]
    return [_shortened(each, fits) for each in lines]


def _filled(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text in lines that fit, but for words that do not."""
    lines = [""]
    for word in one_line(text, LONGEST).split():
        longer = f"{lines[-1]} {word}".strip()
        if fits(longer) or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _shortened(label: str, fits: Callable[[str], bool]) -> str:
    if fits(label):
        return label
    lengths = (n for n in range(len(label), 0, -1) if fits(label[:n].rstrip() + "..."))
    return label[: next(lengths, 0)].rstrip() + "..."


@dataclass(frozen=True)
class PageRow:
    """One row of a page.

    Attributes:
        images: From left to right, any size; None for one that cannot be read.
        texts: Paragraphs to their right; the first one is the heading.
    """

    images: tuple[Image.Image | None, ...]
    texts: tuple[str, ...]


def page(title: str, columns: Sequence[str], rows: Sequence[PageRow]) -> Image.Image:
    """A page: a title, headings of the columns of images, and the rows, each as high as it needs.

    Images are reduced to fit their cells, and never enlarged; texts are wrapped.
    """
    width = len(columns) * (CELL + GAP) + TEXT + 2 * GAP
    font = ImageFont.load_default(BODY)
    head = _paragraph(title, width - 2 * GAP, font)
    texts = [_lines(row.texts, font) for row in rows]
    cells = [[image and reduced(image) for image in row.images] for row in rows]
    heights = [
        max([LINE * len(lines), *(image.height if image else CELL // 4 for image in images)])
        for lines, images in zip(texts, cells, strict=True)
    ]
    top = GAP + LINE * (len(head) + 1)
    sheet = Image.new("RGB", (width, top + sum(heights) + GAP * (len(rows) + 1)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(head):
        draw.text((GAP, GAP + LINE * number), line, "black", font)
    for number, name in enumerate(columns):
        draw.text((GAP + number * (CELL + GAP), top - LINE // 2), name, GRAY, font)
    y = top + GAP
    for lines, images, height in zip(texts, cells, heights, strict=True):
        draw.line((GAP, y - GAP // 4, width - GAP, y - GAP // 4), PALE)
        _draw_row(sheet, draw, y + GAP // 4, lines, images, font)
        y += height + GAP
    return sheet


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    y: int,
    lines: Sequence[tuple[str, str]],
    images: Sequence[Image.Image | None],
    font: Font,
) -> None:
    for number, image in enumerate(images):
        x = GAP + number * (CELL + GAP)
        if image:
            sheet.paste(image, (x, y))
        else:
            draw.text((x, y), "(cannot be read)", GRAY, font)
    x = GAP + len(images) * (CELL + GAP)
    for number, (line, color) in enumerate(lines):
        draw.text((x, y + LINE * number), line, color, font)


def _lines(texts: Sequence[str], font: Font) -> list[tuple[str, str]]:
    """The wrapped lines of paragraphs, each with its color."""
    colors = ["black", *[GRAY] * (len(texts) - 1)]
    return [
        (line, color)
        for text, color in zip(texts, colors, strict=True)
        for line in _paragraph(text, TEXT, font)
    ]


def reduced(image: Image.Image) -> Image.Image:
    """An image that fits a cell of a page: smaller, or of the same size."""
    small = image.convert("RGB")
    small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return small


def _paragraph(text: str, width: int, font: Font) -> list[str]:
    """The text in lines that fit ``width`` pixels; words that do not fit are divided."""

    def fits(part: str) -> bool:
        return font.getlength(part) <= width

    lines: list[str] = []
    for line in _filled(text, fits):
        while not fits(line):
            length = next((n for n in range(len(line), 1, -1) if fits(line[:n])), 1)
            lines.append(line[:length])
            line = line[length:]
        lines.append(line)
    return lines
