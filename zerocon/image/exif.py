"""EXIF data and TIFF directories as bytes: what is kept is kept exactly.

EXIF data are a TIFF file without pixels: directories of entries (tag, type, count, value), in one
of two byte orders. ``patch`` changes the bytes of a file's EXIF data in place, so that values keep
their encoding and their offset, which the notes of camera makers depend on. ``of_tiff`` and
``graft`` copy the values from and to TIFF files. Source: TIFF 6.0, section 2, and EXIF 2.32,
section 4.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

Order: TypeAlias = Literal["little", "big"]
Range: TypeAlias = tuple[int, int]

PREFIX = b"Exif\0\0"
ORIENTATION, EXIF, GPS, INTEROP = 0x0112, 0x8769, 0x8825, 0xA005
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
SUBFILES, LAYERS = 330, 37724  # further images, and the layers of Photoshop
DIRECTORIES = {EXIF, GPS, INTEROP}  # tags whose value is the offset of a directory
# bytes of a value's parts, which have the file's byte order, and parts per value
UNITS = {
    1: (1, 1), 2: (1, 1), 3: (2, 1), 4: (4, 1), 5: (4, 2), 6: (1, 1), 7: (1, 1), 8: (2, 1),
    9: (4, 1), 10: (4, 2), 11: (4, 1), 12: (8, 1), 13: (4, 1), 16: (8, 1), 17: (8, 1), 18: (8, 1),
}  # fmt: skip
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
NARROW = {LONG8: LONG, 17: 9, 18: 13}  # types of BigTIFF, and those of TIFF
# TIFF tags about the layout of its bytes, and copies of metadata that is handled elsewhere
LAYOUT = {
    *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326),
    SUBFILES, 338, 339, 347, 512, 513, 514, 529, 530, 531, 532, XMP, IPTC, PHOTOSHOP, ICC, LAYERS,
}  # fmt: skip
RESOLUTION = {282, 283, 296}
DEPTH = 4  # of directories in directories
MOST = 32  # directories; files of cameras have five


@dataclass(frozen=True)
class Entry:
    """One entry of a directory; ``value`` has the byte order of its file, ``start`` is its offset.

    ``directory`` is the one that the value refers to, for the tags of ``DIRECTORIES``.
    """

    tag: int
    kind: int
    count: int
    value: bytes
    start: int = 0
    directory: Directory | None = None


@dataclass(frozen=True)
class Directory:
    """Entries in the order of the file; ``size`` bytes at ``start``, then ``next`` or 0.

    ``damaged`` counts entries that were left out: of an unknown type, or outside the data.
    """

    entries: tuple[Entry, ...]
    start: int = 0
    size: int = 0
    next: int = 0
    damaged: int = 0

    def entry(self, tag: int) -> Entry | None:
        """The first entry with this tag."""
        return next((each for each in self.entries if each.tag == tag), None)

    @property
    def all_damaged(self) -> int:
        """``damaged``, with directories inside this one."""
        inner = (each.directory.all_damaged for each in self.entries if each.directory)
        return self.damaged + sum(inner)


@dataclass(frozen=True)
class Patched:
    """EXIF data to write.

    Attributes:
        data: With ``PREFIX``; empty if there are none.
        orientation: 1..8; None if there is none.
        problems: What could not be kept or read, one line each.
    """

    data: bytes = b""
    orientation: int | None = None
    problems: tuple[str, ...] = ()


class TiffReader:
    """Reads directories of EXIF data or of a TIFF file, BigTIFF included.

    Raises:
        ValueError: The data do not begin as a TIFF file does.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.seen = data, list[Range]()
        self.budget = 2 * len(data) + 64  # values that overlap would multiply the data
        if data[:2] not in (b"II", b"MM"):
            raise ValueError("no byte order")
        self.order: Order = "little" if data[:2] == b"II" else "big"
        version = self.number(2, 2)
        if version not in (42, 43):
            raise ValueError(f"version {version}")
        self.big = version == 43
        self.first = self.number(8, 8) if self.big else self.number(4, 4)

    def number(self, start: int, size: int) -> int:
        """The unsigned integer at an offset; ``ValueError`` beyond the end."""
        if not 0 <= start <= len(self.data) - size:
            raise ValueError(f"no bytes at {start}")
        return int.from_bytes(self.data[start : start + size], self.order)

    def read(self, start: int, depth: int = DEPTH) -> Directory:
        """The directory at an offset; ``ValueError`` if there is none."""
        head, size, word = (8, 20, 8) if self.big else (2, 12, 4)
        count = self.number(start, head)
        present = min(count, max(0, len(self.data) - start - head) // size)
        entries, damaged = [], count - present
        if count > 0 and present == 0:
            raise ValueError(f"no entries at {start}")
        end = start + head + present * size
        if len(self.seen) >= MOST:
            raise ValueError(f"more than {MOST} directories")
        if start < 8 or any(start < last and first < end for first, last in self.seen):
            raise ValueError(f"no directory at {start}")  # or one that overlaps another one
        self.seen.append((start, end))
        for place in range(start + head, start + head + present * size, size):
            try:
                entries.append(self._entry(place, word, depth))
            except ValueError:
                damaged += 1
        try:
            after = self.number(end, word) if count == present else 0
        except ValueError:
            after = 0
        return Directory(tuple(entries), start, min(end + word, len(self.data)) - start, after,
                         min(damaged, 65535))  # fmt: skip

    def _entry(self, place: int, word: int, depth: int) -> Entry:
        tag, kind = self.number(place, 2), self.number(place + 2, 2)
        count = self.number(place + 4, word)
        if kind not in UNITS:
            raise ValueError(f"type {kind}")
        unit, parts = UNITS[kind]
        length = count * unit * parts
        start = place + 4 + word
        if length > word:
            start = self.number(start, word)
        self.budget -= length
        if start + length > len(self.data) or self.budget < 0:
            raise ValueError(f"no value at {start}")
        entry = Entry(tag, kind, count, self.data[start : start + length], start)
        if tag not in DIRECTORIES:
            return entry
        if count != 1 or kind not in (LONG, 13, LONG8, 18) or not depth:
            raise ValueError("no directory")
        return replace(entry, directory=self.read(integer(entry, self.order), depth - 1))


def patch(exif: bytes, *, keep_gps: bool, orientation: int | None = None) -> Patched:
    """EXIF data without thumbnail and position; all other values keep their bytes and offsets.

    Bytes of what is removed become zero, and are cut off at the end of the data.

    Args:
        exif: With or without ``PREFIX``.
        keep_gps: Keep the GPS directory.
        orientation: The one to write, if it differs from that of the data.

    Raises:
        ValueError: The data have no directory.
    """
    data = exif.removeprefix(PREFIX)
    reader = TiffReader(data)
    if reader.big:
        raise ValueError("BigTIFF")
    first = reader.read(reader.first)
    given, problems = _orientation(first, reader.order)
    kept = _kept(first, keep_gps)
    kept = _oriented(kept, orientation or given, reader.order)
    buffer = bytearray(data)
    chain = _chain(reader, first.next)
    removed = [range_ for each in chain for range_ in _ranges(each, reader.order)]
    tags = {each.tag for each in kept.entries}
    removed += [r for e in first.entries if e.tag not in tags for r in _entry_ranges(e)]
    header = (0, 8)  # which a damaged offset can point to
    _wipe(buffer, removed, [header, *_ranges(kept, reader.order)])
    buffer = _rewritten(buffer, kept, reader.order)
    if damaged := first.all_damaged:
        problems += (f"EXIF tags that are damaged are not kept: {damaged}",)
    if not kept.entries:
        return Patched(b"", orientation or given, problems)
    return Patched(PREFIX + bytes(buffer), orientation or given, problems)


def of_tiff(data: bytes, *, keep_gps: bool) -> Patched:
    """The EXIF data of a TIFF file, BigTIFF included: its tags except those of its layout.

    Raises:
        ValueError: The file has no directory.
    """
    reader = TiffReader(data)
    first = reader.read(reader.first)
    orientation, problems = _orientation(first, reader.order)
    if damaged := first.all_damaged:
        problems += (f"EXIF tags that are damaged are not kept: {damaged}",)
    kept = _kept(first, keep_gps)
    kept = replace(kept, entries=tuple(each for each in kept.entries if each.tag not in LAYOUT))
    kept = _oriented(kept, orientation, reader.order)
    if not kept.entries:
        return Patched(b"", orientation, problems)
    mark = b"II*\0\x08\0\0\0" if reader.order == "little" else b"MM\0*\0\0\0\x08"
    return Patched(PREFIX + mark + _encoded(kept, 8, reader.order), orientation, problems)


def graft(tiff: bytes, exif: bytes, more: Iterable[Entry] = (), *, resolution: bool) -> bytes:
    """A TIFF file with the tags of EXIF data and further ones, in a new first directory.

    Tags of the layout and those that the file has already are those of the file.

    Args:
        tiff: A TIFF file that is no BigTIFF.
        exif: With ``PREFIX``, or empty.
        more: Further entries, whose values are bytes.
        resolution: Take the resolution from ``exif``.
    """
    reader = TiffReader(tiff)
    entries_by_tag = {each.tag: each for each in reader.read(reader.first).entries}
    if exif:
        source = TiffReader(exif.removeprefix(PREFIX))
        directory = source.read(source.first)
        if source.order != reader.order:
            directory = _swapped(directory)
        for each in directory.entries:
            if each.tag not in LAYOUT and (
                each.tag not in entries_by_tag or _resolution(each, resolution)
            ):
                entries_by_tag[each.tag] = each
    entries_by_tag |= {each.tag: each for each in more}
    entries = tuple(entries_by_tag[tag] for tag in sorted(entries_by_tag))
    start = len(tiff) + len(tiff) % 2
    head = tiff[:4] + start.to_bytes(4, reader.order) + tiff[8:]
    return head.ljust(start, b"\0") + _encoded(Directory(entries), start, reader.order)


def directory_of(exif: bytes) -> tuple[Directory, Order]:
    """The first directory of EXIF data or of a TIFF file, and its byte order.

    Raises:
        ValueError: There is none.
    """
    reader = TiffReader(exif.removeprefix(PREFIX))
    return reader.read(reader.first), reader.order


def only_thumbnails_follow(data: bytes) -> bool:
    """Whether the further pages of a TIFF file are smaller copies of the first one."""
    try:
        reader = TiffReader(data)
        chain = _chain(reader, reader.read(reader.first).next)
    except ValueError:
        return False
    whole = len(chain) < DEPTH or not chain[-1].next
    return whole and all(_is_thumbnail(each, reader.order) for each in chain)


def _is_thumbnail(page: Directory, order: Order) -> bool:
    new, old = page.entry(254), page.entry(255)
    reduced = new is not None and integer(new, order) & 1
    return bool(reduced or (old is not None and integer(old, order) == 2))


def has_gps(exif: bytes) -> bool:
    """Whether EXIF data of ``patch`` or ``of_tiff`` have a GPS directory."""
    return bool(exif) and directory_of(exif)[0].entry(GPS) is not None


def with_orientation(exif: bytes, orientation: int) -> bytes:
    """EXIF data of ``patch``, ``of_tiff`` or none, with this orientation."""
    if exif:
        return patch(exif, keep_gps=True, orientation=orientation).data
    entry = Entry(ORIENTATION, SHORT, 1, orientation.to_bytes(2, "big"))
    return PREFIX + b"MM\0*\0\0\0\x08" + _encoded(Directory((entry,)), 8, "big")


def without_orientation(exif: bytes) -> bytes:
    """The same EXIF data without the orientation, for formats that have it elsewhere."""
    if not exif:
        return exif
    directory, order = directory_of(exif)
    kept = tuple(each for each in directory.entries if each.tag != ORIENTATION)
    if len(kept) == len(directory.entries):
        return exif
    buffer = bytearray(exif.removeprefix(PREFIX))
    rewritten = _rewritten(buffer, replace(directory, entries=kept), order)
    return PREFIX + bytes(rewritten) if kept else b""


def orientation_in(exif: bytes) -> int | None:
    """The orientation in EXIF data, 1..8, whatever its type; None if there is none."""
    try:
        directory, order = directory_of(exif)
    except ValueError:
        return None
    return _orientation(directory, order)[0]


def integer(entry: Entry, order: Order) -> int:
    """The first value as an unsigned integer."""
    unit, _ = UNITS[entry.kind]
    return int.from_bytes(entry.value[:unit], order)


def _orientation(directory: Directory, order: Order) -> tuple[int | None, tuple[str, ...]]:
    """The orientation whatever its type, and a line if it cannot be read."""
    entry = directory.entry(ORIENTATION)
    if entry is None:
        return None, ()
    number = _number(entry, order)
    if number in range(1, 9):
        return number, ()
    if number == 0 and entry.kind == SHORT:  # means unknown
        return None, ()
    return None, ("the orientation in the EXIF data is not valid and is ignored",)


def _number(entry: Entry, order: Order) -> int | None:
    value = entry.value
    if entry.kind == ASCII:
        text = value.rstrip(b"\0 ").strip()
        return int(text) if text.isdigit() and len(text) == 1 else None
    if entry.kind in (RATIONAL, 10):
        above, below = (int.from_bytes(part, order) for part in (value[:4], value[4:8]))
        return above // below if below and above % below == 0 else None
    if entry.kind == UNDEFINED:  # of unknown width and byte order: one byte that is not zero
        parts = [byte for byte in value if byte]
        return parts[0] if len(parts) == 1 and len(value) <= 8 else None
    return integer(entry, order) if entry.count else None


def _kept(directory: Directory, keep_gps: bool) -> Directory:
    dropped = {XMP, PHOTOSHOP} | (set() if keep_gps else {GPS})
    entries = tuple(each for each in directory.entries if each.tag not in dropped)
    return replace(directory, entries=entries)


def _oriented(directory: Directory, orientation: int | None, order: Order) -> Directory:
    """With this orientation, as one SHORT."""
    entry = directory.entry(ORIENTATION)
    if orientation is None or (entry is None and orientation == 1):
        return directory
    if entry and entry.kind == SHORT and integer(entry, order) == orientation:
        return directory
    written = Entry(ORIENTATION, SHORT, 1, orientation.to_bytes(2, order))
    others = [each for each in directory.entries if each.tag != ORIENTATION]
    entries = sorted([*others, written], key=lambda each: each.tag)
    return replace(directory, entries=tuple(entries))


def _chain(reader: TiffReader, start: int) -> list[Directory]:
    """The directories after the first one: those of thumbnails."""
    chain: list[Directory] = []
    while start and len(chain) < DEPTH:
        try:
            chain.append(reader.read(start))
        except ValueError:
            break
        start = chain[-1].next
    return chain


def _ranges(directory: Directory, order: Order) -> list[Range]:
    """Bytes of a directory, of its values, and of the image that it describes."""
    ranges = [(directory.start, directory.start + directory.size)]
    ranges += [range_ for each in directory.entries for range_ in _entry_ranges(each)]
    for offsets, lengths in ((513, 514), (273, 279)):
        pair = directory.entry(offsets), directory.entry(lengths)
        if pair[0] and pair[1]:
            places, sizes = (_integers(each, order) for each in pair if each)
            ranges += [(at, at + size) for at, size in zip(places, sizes, strict=False)]
    return ranges


def _entry_ranges(entry: Entry) -> list[Range]:
    ranges = [(entry.start, entry.start + len(entry.value))] if entry.start else []
    inner = entry.directory
    if inner:
        ranges += [(inner.start, inner.start + inner.size)]
        ranges += [range_ for each in inner.entries for range_ in _entry_ranges(each)]
    return ranges


def _integers(entry: Entry, order: Order) -> list[int]:
    unit, _ = UNITS[entry.kind]
    value = entry.value
    return [int.from_bytes(value[at : at + unit], order) for at in range(0, len(value), unit)]


def _wipe(buffer: bytearray, removed: Sequence[Range], kept: Sequence[Range]) -> None:
    """Zero what only removed ranges have; cut it off at the end."""
    free = _covered(removed, len(buffer)) & ~_covered(kept, len(buffer))
    values = np.frombuffer(buffer, np.uint8).copy()
    values[free] = 0
    used = np.flatnonzero(~free)
    buffer[:] = values[: used[-1] + 1].tobytes()  # the header is kept


def _covered(ranges: Sequence[Range], size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the first ``size`` bytes are in one of the ranges; many may overlap."""
    steps = np.zeros(size + 1, np.int64)
    inside = [(min(start, size), min(end, size)) for start, end in ranges]
    places = np.array(inside, np.int64).reshape(-1, 2)
    np.add.at(steps, places[:, 0], 1)
    np.add.at(steps, places[:, 1], -1)
    return steps[:-1].cumsum() > 0


def _rewritten(buffer: bytearray, directory: Directory, order: Order) -> bytearray:
    """``buffer`` with this first directory, without a next one: in place, or at the end."""
    needed = 6 + 12 * len(directory.entries)
    if needed > directory.size:
        buffer[directory.start : directory.start + directory.size] = bytes(directory.size)
        buffer += bytes(len(buffer) % 2)
        directory = replace(directory, start=len(buffer), size=needed)
        buffer += bytes(needed)
        buffer[4:8] = directory.start.to_bytes(4, order)
    return _in_place(buffer, directory, order)


def _in_place(buffer: bytearray, directory: Directory, order: Order) -> bytearray:
    """Write the entries over a directory that has room for them."""
    for each in directory.entries:
        if each.directory and each.directory.all_damaged:
            buffer = _in_place(buffer, each.directory, order)
    body = len(directory.entries).to_bytes(2, order)
    for each in directory.entries:
        head = each.tag.to_bytes(2, order) + each.kind.to_bytes(2, order)
        inline = each.value.ljust(4, b"\0")
        if len(each.value) > 4:
            inline = each.start.to_bytes(4, order)
        body += head + each.count.to_bytes(4, order) + inline
    body += bytes(4)
    buffer[directory.start : directory.start + max(directory.size, len(body))] = body.ljust(
        directory.size, b"\0"
    )
    return buffer


def _encoded(directory: Directory, start: int, order: Order) -> bytes:
    """A directory at an offset, followed by its values; types of BigTIFF as those of TIFF."""
    entries = [_narrow(each, order) for each in directory.entries]
    place = start + 6 + 12 * len(entries)
    head = len(entries).to_bytes(2, order)
    parts = []
    for each in entries:
        value = each.value
        if each.directory:
            inner = _encoded(each.directory, place, order)
            value, extra = place.to_bytes(4, order), inner
        elif len(value) > 4:
            value, extra = place.to_bytes(4, order), value
        else:
            extra = b""
        parts.append(extra + bytes(len(extra) % 2))
        place += len(parts[-1])
        head += each.tag.to_bytes(2, order) + each.kind.to_bytes(2, order)
        head += each.count.to_bytes(4, order) + value.ljust(4, b"\0")
    return head + bytes(4) + b"".join(parts)


def _narrow(entry: Entry, order: Order) -> Entry:
    if entry.kind not in NARROW:
        return entry
    limit = 2**31 if NARROW[entry.kind] == 9 else 2**32
    values = [each % limit for each in _integers(entry, order)]
    value = b"".join(each.to_bytes(4, order) for each in values)
    return replace(entry, kind=NARROW[entry.kind], value=value)


def _swapped(directory: Directory) -> Directory:
    """With values in the other byte order."""
    return replace(directory, entries=tuple(map(_swapped_entry, directory.entries)))


def _swapped_entry(entry: Entry) -> Entry:
    unit, _ = UNITS[entry.kind]
    value = entry.value
    parts = [value[at : at + unit][::-1] for at in range(0, len(value), unit)]
    inner = _swapped(entry.directory) if entry.directory else None
    return replace(entry, value=b"".join(parts), directory=inner)


def _resolution(entry: Entry, taken: bool) -> bool:
    return taken and entry.tag in RESOLUTION
