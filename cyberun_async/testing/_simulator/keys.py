"""The credentials of a simulated service and the rules of section 1.2 of its API."""

import base64
import json
import random
from typing import Literal, TypeAlias

import attrs

from .errors import ServiceError


Kind: TypeAlias = Literal["sk", "dk", "ak", "jwt"]


@attrs.frozen
class Caller:
    """Who makes a request."""

    kind: Kind
    key: str = attrs.field(repr=False)

    @property
    def source(self) -> str:
        """How tasks of this caller are said to be created."""
        return "jwt" if self.kind == "jwt" else "api_key"


class KeyRing:
    """All keys ever issued and whether they still work."""

    def __init__(self, chance: random.Random, team_id: str) -> None:
        self.team_id = team_id
        self._chance = chance
        self._keys: dict[str, Kind] = {}

    def issue(self, kind: Kind) -> str:
        """Return a new working key."""
        key = self._new_jwt() if kind == "jwt" else f"{kind}-{self._chance.randbytes(20).hex()}"
        self._keys[key] = kind
        return key

    def revoke(self, key: str) -> None:
        """Refuse *key* from now on."""
        self._keys.pop(key, None)

    def caller(self, authorization: str | None, team_id: str | None) -> Caller:
        """
        Return who sent these headers.

        Raises:
            ServiceError: They prove nothing (401), or a JWT lacks its team (400)
                or names a foreign one (403).
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise ServiceError(401, "missing bearer credential")
        if key.startswith("ak-"):
            raise ServiceError(401, "agent credentials are not accepted here")
        if key.startswith("eyJ") and not team_id:
            raise ServiceError(400, "X-Team-ID is required")
        if key not in self._keys:
            raise ServiceError(401, "invalid credential")
        caller = Caller(self._keys[key], key)
        if caller.kind == "jwt" and team_id != self.team_id:
            raise ServiceError(403, "not a member of this team")
        return caller

    def _new_jwt(self) -> str:
        claims = {"sub": self._chance.randbytes(8).hex(), "iss": "https://id.cyberun.test"}
        header = _part(json.dumps({"alg": "RS256", "typ": "JWT"}).encode())
        return f"{header}.{_part(json.dumps(claims).encode())}.{_part(self._chance.randbytes(32))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
