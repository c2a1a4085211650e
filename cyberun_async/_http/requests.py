"""
Making requests: the last defence of the address and the headers, and where redirects lead.

What is refused here was let through by mistake elsewhere. httpx resolves dot
segments, so that a task called ``../../admin`` would be another address, and it
puts the value of a bad header into its error.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import httpx

from .._model import InvalidInputError
from .._protocol import ExchangeFailedError, FailureKind


MAX_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
_SAFE_METHODS = frozenset({"GET", "HEAD"})

_LENGTH = b"content-length"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_FORBIDDEN_IN_PATH = re.compile(r"[^!-~]|[?#\\\"<>`{}]")

Headers = Mapping[str, str | bytes]
# Seconds by phase, as httpx has them; None for no limit.
Phases = dict[str, float | None]
Params = Mapping[str, str | int | float | Sequence[str | int | float | bool | None] | None]


def build_request(
    method: str,
    url: httpx.URL,
    headers: Headers,
    content: AsyncIterable[bytes] | bytes | None,
    phases: Phases,
) -> httpx.Request:
    """Return the request, with nothing in it that was not given, but host and length."""
    encoded = [(_header_name(name), _header_value(name, text)) for name, text in headers.items()]
    timeout: dict[str, Any] = {"timeout": phases}
    if content is None or isinstance(content, bytes):
        request = httpx.Request(method, url, headers=encoded, content=content, extensions=timeout)
        request.stream = BytesBody(content or b"")
        return request
    length = next((int(value) for name, value in encoded if name.lower() == _LENGTH), None)
    if length is None:
        encoded.append((b"transfer-encoding", b"chunked"))
    request = httpx.Request(method, url, headers=encoded, extensions=timeout)
    request.stream = UploadBody(content, length)
    return request


def body_of(request: httpx.Request) -> httpx.AsyncByteStream:
    """Return the body of a request made here, to be closed."""
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise TypeError("the request's body cannot be sent asynchronously")
    return request.stream


class BytesBody(httpx.AsyncByteStream):
    """
    A body at hand.

    That of httpx is a generator, which a cancelled request leaves to the collector.
    """

    def __init__(self, content: bytes) -> None:
        self._pieces = [content] if content else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(iter(self._pieces))


class _Pieces:
    __slots__ = ("_pieces",)

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


class UploadBody(httpx.AsyncByteStream):
    """A body to be read piece by piece, once; its length must be what was announced."""

    def __init__(self, content: AsyncIterable[bytes], length: int | None) -> None:
        self._pieces = aiter(content)
        self._left = length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces, None)
        if self._left is not None:
            self._left -= len(piece or b"")
            if self._left < 0 or (piece is None and self._left > 0):
                raise ExchangeFailedError(
                    FailureKind.PROTOCOL,
                    maybe_sent=True,
                    reason="the body is not as long as its Content-Length says;"
                    " did the file change?",
                )
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close the source, where it can be closed."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


def with_headers(headers: Headers, more: Headers) -> dict[str, str | bytes]:
    """Return both, in lower case, *more* taking precedence."""
    return {name.lower(): value for name, value in (*headers.items(), *more.items())}


def _header_name(name: str) -> bytes:
    encoded = name.encode("utf-8", "backslashreplace")
    if not _TOKEN.fullmatch(encoded):
        raise InvalidInputError("a header's name holds a character that no name may have")
    return encoded


def _header_value(name: str, value: str | bytes) -> bytes:
    try:
        encoded = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        # Its message holds the value.
        encoded = b"\0"
    if _FORBIDDEN_IN_VALUE.search(encoded):
        raise InvalidInputError(
            f"the value of the header {name!r} begins or ends with a blank, or holds a line"
            " break or another control character"
        )
    return encoded


def api_url(base_url: str, path: str, params: Params | None = None) -> httpx.URL:
    """
    Return the address of *path*, which must be quoted already.

    Raises:
        InvalidInputError: The path would lead out of the base URL.
    """
    segments = path.lstrip("/").split("/")
    if _FORBIDDEN_IN_PATH.search(path) or any(unquote(s) in {".", ".."} for s in segments):
        raise InvalidInputError("the path is not quoted, or holds a dot segment")
    url = httpx.URL(f"{base_url}/{'/'.join(segments)}")
    return url.copy_merge_params(dict(params)) if params else url


def foreign_url(url: str) -> httpx.URL:
    """
    Return the address; its text is in no error, as links may carry a signature.

    Raises:
        ExchangeFailedError: It is no address of HTTP.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ExchangeFailedError(
            FailureKind.CONNECT, maybe_sent=False, reason="the link is not an HTTP address"
        )
    return parsed


def host_of(url: httpx.URL) -> str:
    """Return scheme, host and port: what of an address may be shown."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def is_redirect(status: int) -> bool:
    """Return whether the answer points elsewhere."""
    return status in _REDIRECTS


class Redirects:
    """
    Follows one request's redirects for as long as that is safe.

    The same headers go everywhere, so another origin than the first is only gone to
    where *may_leave* says so. A body is never sent again but where the answer says
    that it was not taken (307, 308).
    """

    def __init__(self, method: str, url: httpx.URL) -> None:
        self._method = method
        self._origin = host_of(url)
        self._seen = {str(url)}
        self.url = url

    def follow(
        self,
        status: int,
        headers: Mapping[str, str],
        may_leave: Callable[[str], bool] | None = None,
    ) -> None:
        """
        Go where an answer leads.

        Raises:
            ExchangeFailedError: It must not be followed.
        """
        if self._method not in _SAFE_METHODS and status not in _KEEP_METHOD:
            raise _refused(f"of a {self._method}")
        target = self._resolve(headers.get("location", "").strip())
        self._check_origin(target, may_leave)
        if str(target) in self._seen:
            raise _refused("in a loop")
        if len(self._seen) > MAX_REDIRECTS:
            raise _refused(f"after {MAX_REDIRECTS} others")
        self._seen.add(str(target))
        self.url = target

    def _check_origin(self, target: httpx.URL, may_leave: Callable[[str], bool] | None) -> None:
        if self.url.scheme == "https" and target.scheme != "https":
            raise _refused("from https to http")
        is_inside = host_of(target) == self._origin
        if not is_inside and (may_leave is None or not may_leave(str(target))):
            raise _refused(f"to another origin, {host_of(target)}")

    def _resolve(self, location: str) -> httpx.URL:
        if not location:
            raise _refused("without a target")
        try:
            target = self.url.join(location).copy_with(fragment=None)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            raise _refused("to what is no address") from None
        if target.scheme not in {"http", "https"} or not target.host or target.userinfo:
            raise _refused("to what is no plain HTTP address")
        return target


def _refused(what: str) -> ExchangeFailedError:
    return ExchangeFailedError(
        FailureKind.REDIRECT,
        maybe_sent=True,
        reason=f"refused to follow a redirect {what}; check the base URL",
    )


def cannot_send_again(status: int) -> ExchangeFailedError:
    """Return the error for a redirect of a request whose body is gone."""
    return ExchangeFailedError(
        FailureKind.REDIRECT,
        maybe_sent=True,
        reason=f"a redirect (HTTP {status}) asks for a body that can be read only once",
    )
