"""Change valid inputs a little: bits, lengths, types and parts, by their format."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Random = random.Random
Mutator = Callable[[bytes, Random], bytes]

NUMBERS = (
    0, 1, -1, 2, 127, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
"""Sizes and ids at and beyond the limits of the types that store them."""
ODD_TEXTS = (
    "", " ", "\0", "\n", "..", "../../etc/passwd", "/dev/zero", "=1+1", "'", '"', "\\", "%", "\ud800", "\u202e",
    "é" * 300,
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, [], {}, 0.5, -0.0, float("nan"), float("inf"), 1e308, 10**400, *NUMBERS, *ODD_TEXTS,
)  # fmt: skip
_LONGEST = 100_000
DEEP = 2_000
"""Levels of JSON or parentheses that no reader should follow."""


def _changes(rng: Random) -> int:
    """Return how many changes to make: mostly one, because an input with many changes is refused at once."""
    return rng.choice((1, 1, 1, 2, 4))


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """Return bytes with one to four changes: bits, values, numbers of 4 or 8 bytes, parts cut, doubled, swapped."""
    out = bytearray(data)
    for _ in range(_changes(rng)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 2, 4, 8, 64, 1024)))
        what = rng.randrange(8)
        if what == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            out[at:end] = rng.randbytes(end - at)
        elif what == 2:
            del out[at:]
        elif what == 3:
            del out[at:end]
        elif what == 4:
            out[at:at] = out[at:end]
        elif what == 5:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        elif what == 6:
            size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            out[at : at + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, order)
        else:
            to = rng.randrange(len(out) + 1)
            out[at:end], out[to : to + end - at] = out[to : to + end - at], out[at:end]
    return bytes(out)


def mutated_text(tokens: Sequence[str]) -> Mutator:
    """Return a function that changes a text: tokens inserted, parts cut, doubled and swapped, characters changed."""

    def mutate(data: bytes, rng: Random) -> bytes:
        text = data.decode("utf-8", "surrogateescape")
        for _ in range(_changes(rng)):
            words = text.split(" ")
            at = rng.randrange(len(words))
            what = rng.randrange(8)
            if what == 0:
                words.insert(at, rng.choice(tokens))
            elif what == 1:
                words[at] = rng.choice(tokens)
            elif what == 2:
                del words[at]
            elif what == 3:
                words.insert(at, words[rng.randrange(len(words))])
            elif what == 4:
                words[at] = str(rng.choice(NUMBERS)) * rng.choice((1, 1, 300))
            elif what == 5:
                words[at] += rng.choice((*ODD_TEXTS, *tokens))
            elif what == 6:
                word = rng.choice(tokens)
                words[at] = word * rng.choice((3, DEEP)) + words[at]
            else:
                words[at] = words[at][: rng.randrange(len(words[at]) + 1)]
            text = " ".join(words)
        return text.encode("utf-8", "surrogatepass" if rng.random() < 0.1 else "replace")

    return mutate


def mutated_value(value: Any, rng: Random) -> Any:
    """Return a value of JSON with one part replaced, removed, doubled or moved."""
    if rng.random() < 0.02:
        return rng.choice(ODD_VALUES)
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        inner = dict(value)
        what = rng.random()
        if what < 0.08:
            del inner[key]
        elif what < 0.14:
            inner[rng.choice((*ODD_TEXTS, *map(str, NUMBERS), *value))] = inner[key]
        elif what < 0.2:
            inner[key] = inner[rng.choice(list(value))]
        else:
            inner[key] = mutated_value(inner[key], rng)
        return inner
    if isinstance(value, list) and value and rng.random() < 0.9:
        at, items = rng.randrange(len(value)), list(value)
        what = rng.random()
        if what < 0.1:
            del items[at]
        elif what < 0.2:
            items.insert(at, items[rng.randrange(len(value))])
        else:
            items[at] = mutated_value(items[at], rng)
        return items
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice((*NUMBERS, value + 1, value - 1, -value, value * 2))
    if isinstance(value, str) and value and rng.random() < 0.5:
        at = rng.randrange(len(value))
        return rng.choice(
            (
                value[:at],
                value[at:],
                value + rng.choice(ODD_TEXTS),
                value[:at] + "\0" + value[at:],
                (value * 1000)[:_LONGEST],
            )
        )
    return rng.choice(ODD_VALUES)


def dumped(value: Any, rng: Random) -> bytes:
    """Return a value as JSON, now and then within more lists than any reader should follow."""
    text = json.dumps(value)
    if rng.random() < 0.02:
        text = "[" * DEEP + text + "]" * rng.choice((0, DEEP))
    return text.encode()


def mutated_json(data: bytes, rng: Random) -> bytes:
    """Return JSON with one to three parts changed, a tenth of it as bytes."""
    if rng.random() < 0.1:
        return mutated_bytes(data, rng)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutated_bytes(data, rng)
    for _ in range(_changes(rng)):
        value = mutated_value(value, rng)
    return dumped(value, rng)


_NPY: tuple[str, ...] = (
    "<f4", "'|O'", "'<f8'", "'|V9999999'", "'|S0'", "'>f2'", "'<U9'", "'<M8'", "'<c16'", "True", "()", "(0, 0)",
    "(-1, 4)",
)  # fmt: skip
_NPY += (
    "(9999999999, 9999999999)", "(4294967296, 16)", "(3, 3, 3)", "(True, 4)", "(1.5, 4)", "None", "{", "}", ",",
    "'extra': 1,",
)  # fmt: skip
_npy_text = mutated_text(_NPY)


def mutated_npy(data: bytes, rng: Random) -> bytes:
    """Return a .npy file with another header, or with changed bytes."""
    if rng.random() < 0.4 or data[:6] != b"\x93NUMPY" or len(data) < 12:
        return mutated_bytes(data, rng)
    (size,) = struct.unpack_from("<H", data, 8)
    header = _npy_text(data[10 : 10 + size], rng)
    if rng.random() < 0.8:
        header = header.rstrip(b" \n").ljust(53 + 64 * rng.randrange(3)) + b"\n"
    version = rng.choice((1, 1, 1, 2, 3, 9))
    length = struct.pack("<H" if version == 1 else "<I", len(header) % 65536)
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + data[10 + size :]


def mutated_sizes(data: bytes, rng: Random) -> bytes:
    """Return a file that begins with two numbers of 4 bytes, with these or other bytes changed."""
    if rng.random() < 0.4:
        return mutated_bytes(data, rng)
    sizes = [rng.choice((value, value, *NUMBERS)) % 2**32 for value in struct.unpack_from("<II", data.ljust(8, b"\0"))]
    return struct.pack("<II", *sizes) + data[8:]


def mutated_parquet(data: bytes, rng: Random) -> bytes:
    """Return a Parquet file changed anywhere, or in the footer, which describes the rest."""
    if rng.random() < 0.4 or len(data) < 16:
        return mutated_bytes(data, rng)
    start = max(4, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    footer = mutated_bytes(data[start:-8], rng)
    length = len(footer) if rng.random() < 0.9 else rng.choice(NUMBERS)
    return data[:start] + footer + (length % 2**32).to_bytes(4, "little") + data[-4:]


def mutated_safetensors(data: bytes, rng: Random) -> bytes:
    """Return a safetensors file with another header or JSON tensor, or with changed bytes."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.3 or size > len(data) - 8:
        return mutated_bytes(data, rng)
    try:
        header = json.loads(data[8 : 8 + size])
        tensors = {name: told for name, told in header.items() if name != "__metadata__" and isinstance(told, dict)}
    except (ValueError, AttributeError, RecursionError):
        return mutated_bytes(data, rng)
    body = data[8 + size :]
    if rng.random() < 0.5 and _is_place(tensors.get("config")):
        start, end = tensors["config"]["data_offsets"]
        config = mutated_json(body[start:end], rng)
        moved = len(config) - (end - start)
        for told in filter(_is_place, tensors.values()):
            told["data_offsets"] = [at + moved if at >= end else at for at in told["data_offsets"]]
        tensors["config"].update(data_offsets=[start, start + len(config)], shape=[len(config)])
        body = body[:start] + config + body[end:]
    elif rng.random() < 0.3:
        body = mutated_bytes(body, rng)[: len(body)].ljust(len(body), b"\xff")
    elif rng.random() < 0.5 and tensors:
        _reshape(rng.choice(list(tensors.values())), rng)
    else:
        header = mutated_value(header, rng)
    text = dumped(header, rng)
    return (len(text) if rng.random() < 0.95 else rng.choice(NUMBERS) % 2**64).to_bytes(8, "little") + text + body


def _is_place(tensor: Any) -> bool:
    """Return whether the entry of a tensor says where its bytes are."""
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    return isinstance(offsets, list) and len(offsets) == 2 and all(type(at) is int and at >= 0 for at in offsets)


def _reshape(tensor: dict[str, Any], rng: Random) -> None:
    """Give a tensor another shape or type with the same number of bytes."""
    try:
        count = 1
        for side in tensor["shape"]:
            count *= side
        shapes = (
            [count],
            [1, count],
            [count, 1],
            [1, 1, count],
            [count // 2, 2],
            [2, count // 2],
            list(reversed(tensor["shape"])),
        )
        tensor["shape"] = rng.choice(shapes)
        if rng.random() < 0.4:
            tensor["dtype"] = rng.choice(("F32", "I32", "U32", "BF16", "F16", "U8", "BOOL", "F8_E4M3", "F64"))
    except (TypeError, KeyError):
        return


_CHUNKS = (
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"iTXt", b"zTXt", b"tEXt", b"iCCP", b"acTL", b"fcTL", b"fdAT",
    b"gAMA",
)  # fmt: skip


def mutated_image(data: bytes, rng: Random) -> bytes:
    """Return a picture with changed bytes; for a PNG also with changed chunks and matching checksums."""
    if rng.random() < 0.4 or not data.startswith(b"\x89PNG"):
        return mutated_bytes(data, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(rng.randint(1, 3)):
        if not chunks:
            break
        place = rng.randrange(len(chunks))
        kind, body = chunks[place]
        what = rng.randrange(5)
        if what == 0:
            chunks[place] = kind, mutated_bytes(body, rng)
        elif what == 1:
            chunks.insert(
                place, (rng.choice(_CHUNKS), rng.choice((body, b"", rng.randbytes(26), zlib.compress(bytes(10**6)))))
            )
        elif what == 2:
            del chunks[place]
        elif what == 3:
            chunks[place] = rng.choice(_CHUNKS), body
        elif kind == b"IHDR" and len(body) == 13:
            sides = [rng.choice((1, 24, 9_999, 10_000, 65_535, 65_536, 2**31 - 1)) for _ in range(2)]
            chunks[place] = (
                kind,
                struct.pack(">II", *sides)
                + bytes((rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6))))
                + body[10:],
            )
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return data[:8] + b"".join(parts)
