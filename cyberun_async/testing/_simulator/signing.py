"""Presigned links in the manner of S3: what they grant, until when, and whether they are real."""

import hashlib
import hmac
import random
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from .clock import ServiceClock
from .errors import StoreError


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
            "X-Amz-Date": self._clock.moment(self._clock.now()).strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": str(int(lifetime)),
            "X-Amz-SignedHeaders": ";".join(sorted(["host", *map(str.lower, headers)])),
            # The service's clock may be virtual, so the end is told in its own seconds.
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
