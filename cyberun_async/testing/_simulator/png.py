"""Small pictures, drawn and encoded without any library."""

import random
import struct
import zlib
from collections.abc import Iterable

import attrs


@attrs.frozen
class _Disc:
    x: int
    y: int
    radius: int
    colour: bytes

    def span(self, row: int) -> tuple[int, int] | None:
        reach = self.radius**2 - (row - self.y) ** 2
        if reach <= 0:
            return None
        half = int(reach**0.5)
        return self.x - half, self.x + half


def picture(seed: str, size: int = 256) -> bytes:
    """Return a PNG of *size* by *size* pixels: a sky, a sun and hills, by *seed*."""
    chance = random.Random(seed)
    top, bottom, ink = (_colour(chance) for _ in range(3))
    discs = _discs(chance, size, ink)
    return encode(size, size, [_row(y, size, top, bottom, discs) for y in range(size)])


def encode(width: int, height: int, rows: Iterable[bytes]) -> bytes:
    """Encode rows of RGB bytes as a PNG."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 6)
    chunks = _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def _colour(chance: random.Random) -> bytes:
    return bytes(chance.randrange(40, 240) for _ in range(3))


def _discs(chance: random.Random, size: int, ink: bytes) -> list[_Disc]:
    sun = _Disc(
        chance.randrange(size // 4, 3 * size // 4),
        chance.randrange(size // 6, size // 3),
        chance.randrange(size // 12, size // 7),
        bytes((255, 244, 214)),
    )
    hills = [
        _Disc(chance.randrange(size), size + size // 5, size // 2 - 26 * nearness, shade)
        for nearness, shade in enumerate(_shades(ink, 4))
    ]
    return [sun, *hills]


def _shades(colour: bytes, count: int) -> list[bytes]:
    return [bytes(part * (count + 2 - k) // (count + 2) for part in colour) for k in range(count)]


def _row(y: int, size: int, top: bytes, bottom: bytes, discs: Iterable[_Disc]) -> bytes:
    share = y / size
    sky = bytes(int(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
    row = bytearray(sky * size)
    for disc in discs:
        span = disc.span(y)
        if span is not None:
            left, right = max(span[0], 0), min(span[1], size)
            row[3 * left : 3 * right] = disc.colour * max(right - left, 0)
    return bytes(row)
