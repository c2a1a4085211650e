"""The object store: uploads, pictures drawn on request, and presigned links."""

import base64
import functools
import hashlib
import hmac
import random
import struct
import uuid
import zlib
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode

import attrs

from .clock import ServiceClock
from .errors import StoreError
from .tasks import SimTask
from .views import file_keys


@attrs.frozen
class StoredFile:
    """The bytes of a file and their type."""

    content: bytes = attrs.field(repr=False)
    content_type: str


def file_of(task: SimTask, key: str) -> StoredFile | None:
    """Return a file that a task has made."""
    if key not in file_keys(task).values():
        return None
    content = task.plan.file_content
    if content is None:
        content = picture(f"{task.parameters}{key.rpartition('/')[2]}")
    return StoredFile(content, "image/png")


def input_key(file_id: str, content_type: str, file_name: str) -> str:
    """Return the key under which an upload is going to be stored."""
    kind = base64.urlsafe_b64encode(content_type.encode()).decode()
    name = file_name.rpartition("/")[2]
    return f"inputs/{file_id}/{uuid.UUID(file_id).hex[-8:]}/{kind}/{name}"


_Disc = tuple[int, int, int, bytes]  # x, y, radius and colour


@functools.lru_cache(maxsize=64)
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
    sun = (
        chance.randrange(size // 4, 3 * size // 4),
        chance.randrange(size // 6, size // 3),
        chance.randrange(size // 12, size // 7),
        bytes((255, 244, 214)),
    )
    hills = [
        (chance.randrange(size), size + size // 5, size // 2 - 26 * nearness, shade)
        for nearness, shade in enumerate(_shades(ink, 4))
    ]
    return [sun, *hills]


def _shades(colour: bytes, count: int) -> list[bytes]:
    return [bytes(part * (count + 2 - k) // (count + 2) for part in colour) for k in range(count)]


def _row(y: int, size: int, top: bytes, bottom: bytes, discs: Iterable[_Disc]) -> bytes:
    share = y / size
    sky = bytes(int(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
    row = bytearray(sky * size)
    for x, centre, radius, colour in discs:
        half = int(max(radius**2 - (y - centre) ** 2, 0) ** 0.5)
        left, right = max(x - half, 0), min(x + half, size)
        row[3 * left : 3 * right] = colour * max(right - left, 0)
    return bytes(row)


SIGNATURE = "X-Amz-Signature"


class Signer:
    """Mints links to the object store and checks them."""

    def __init__(self, chance: random.Random, clock: ServiceClock) -> None:
        self._secret = chance.randbytes(32)
        self._clock = clock
        self._minted = 0

    def link(
        self, base: str, method: str, key: str, lifetime: float, headers: Mapping[str, str]
    ) -> str:
        """Return a new link that allows *method* on *key* with exactly these headers."""
        self._minted += 1
        expires_at = self._clock.now() + lifetime
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"SIM{self._minted:08}/s3/aws4_request",
            "X-Amz-Date": self._clock.datetime_at(self._clock.now()).strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": str(int(lifetime)),
            "X-Amz-SignedHeaders": ";".join(sorted(["host", *map(str.lower, headers)])),
            # The service's clock may be virtual, so the expiry is given in its own seconds.
            "X-Sim-Until": repr(expires_at),
        }
        query[SIGNATURE] = self._sign(method, key, query, headers)
        return f"{base}/store/{quote(key)}?{urlencode(query)}"

    def check(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> None:
        """
        Check that the bearer of *query* may do this.

        Raises:
            StoreError: The link is altered, used with other headers, or expired.
        """
        names = query.get("X-Amz-SignedHeaders", "").split(";")
        signed = {name: headers.get(name, "") for name in names if name != "host"}
        rest = {name: value for name, value in query.items() if name != SIGNATURE}
        expected = self._sign(method, key, rest, signed)
        if not hmac.compare_digest(expected, query.get(SIGNATURE, "")):
            message = "The request signature we calculated does not match the signature"
            raise StoreError(403, "SignatureDoesNotMatch", message)
        if self._clock.now() >= float(query["X-Sim-Until"]):
            raise StoreError(403, "AccessDenied", "Request has expired")

    def _sign(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> str:
        lowered = sorted((name.lower(), value.strip()) for name, value in headers.items())
        text = "\n".join([method, key, urlencode(sorted(query.items())), urlencode(lowered)])
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
