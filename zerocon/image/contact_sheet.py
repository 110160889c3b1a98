"""Contact sheets: labeled images in a grid, and pages of images with text next to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

CELL, TEXT, GAP = 320, 460, 20  # pixels: side of an image on a page, width of its text, and between
BODY, LINE = 17, 24  # height of a page's letters and lines
GRAY, PALE = "#606060", "#d0d0d0"

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


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
    head = _wrapped(title, width - 2 * GAP, font)
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
        for line in _wrapped(text, TEXT, font)
    ]


def reduced(image: Image.Image) -> Image.Image:
    """An image that fits a cell of a page: smaller, or of the same size."""
    small = image.convert("RGB")
    small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return small


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """A text as lines that fit ``width`` pixels; words that do not fit are divided."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = word
        while font.getlength(lines[-1]) > width:
            fitting = _fitting(lines[-1], width, font)
            lines[-1:] = [lines[-1][:fitting], lines[-1][fitting:]]
    return lines


def _fitting(word: str, width: int, font: Font) -> int:
    """How many letters of a word fit, at least one."""
    return next((n for n in range(len(word), 1, -1) if font.getlength(word[:n]) <= width), 1)
