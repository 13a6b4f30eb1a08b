"""The header of a JPEG XL file. It is read before the decoder opens the file, because that decodes at once.

The fields are those of ISO/IEC 18181-1: SizeHeader and the beginning of ImageMetadata.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

from gpubranches.errors import DataError

_CODESTREAM = b"\xff\x0a"
_HEADER_BYTES = 64
"""The largest size of a header up to the number of extra channels."""
_MOST_BOXES = 1000
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
"""Distributions of a side: the least value and the number of bits that are added to it."""


@dataclass(frozen=True)
class JxlHeader:
    """The contents of a header. size: (width, height) in the file; orientation: as in EXIF; extra: extra channels."""

    size: tuple[int, int]
    orientation: int
    extra: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the decoded picture, upright."""
        return (self.size[1], self.size[0]) if self.orientation > 4 else self.size


def read_header(file: IO[bytes], name: str) -> JxlHeader:
    """Return the header of an open file; the position is the beginning then. Raises DataError if it is broken."""
    bits = _Bits(_codestream(file, name))
    file.seek(0)
    try:
        return _header(bits)
    except EOFError:
        raise DataError(f"{name}: the header of the JPEG XL is cut off") from None


def _codestream(file: IO[bytes], name: str) -> bytes:
    """Return the first bytes behind the signature of the codestream, which may be in boxes."""
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    if not head.startswith(_CODESTREAM):
        head, end = b"", file.seek(0, os.SEEK_END)
        at = 0
        for _ in range(_MOST_BOXES):
            file.seek(at)
            box = file.read(16)
            size, kind = int.from_bytes(box[:4]), box[4:8]
            start = at + (16 if size == 1 else 8)
            size = int.from_bytes(box[8:16]) if size == 1 else size or end - at
            if kind in (b"jxlc", b"jxlp"):
                file.seek(start + (4 if kind == b"jxlp" else 0))
                head += file.read(min(_HEADER_BYTES, max(0, at + size - file.tell())))
                if kind == b"jxlc" or len(head) >= _HEADER_BYTES:
                    break
            if size < 8 or at + size >= end:
                break
            at += size
    if not head.startswith(_CODESTREAM):
        raise DataError(f"{name}: the JPEG XL has no codestream")
    return head[len(_CODESTREAM) :]


class _Bits:
    """Bits of bytes, the lowest first."""

    def __init__(self, data: bytes):
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def choose(self, *choices: tuple[int, int]) -> int:
        """Return a number by one of four distributions (least value, bits), which the next two bits name."""
        least, count = choices[self.take(2)]
        return least + self.take(count)


def _header(bits: _Bits) -> JxlHeader:
    size, orientation = _size(bits), 1
    if bits.take(1):  # all other fields have their defaults
        return JxlHeader(size, orientation, 0)
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            _skip_preview(bits)
        if bits.take(1):
            _skip_animation(bits)
    if bits.take(1):  # floats
        bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.choose((8, 0), (10, 0), (12, 0), (1, 6))
    bits.take(1)
    return JxlHeader(size, orientation, bits.choose((0, 0), (1, 0), (2, 4), (1, 12)))


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else bits.choose(*_SIDE)

    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _skip_preview(bits: _Bits) -> None:
    eighths = bits.take(1)

    def side() -> None:
        if eighths:
            bits.choose((16, 0), (32, 0), (1, 5), (33, 9))
        else:
            bits.choose((1, 6), (65, 8), (321, 10), (1345, 12))

    side()
    if not bits.take(3):
        side()


def _skip_animation(bits: _Bits) -> None:
    bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
    bits.take(1)
