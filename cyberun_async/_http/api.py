"""Authorised requests of the API, tried again where that is safe."""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, copy_context
from typing import Any

import anyio
import attrs

from .._model import CyberunError, RetryPolicy, ServiceUnavailableError, Timeouts
from .._protocol import (
    Departure,
    ExchangeFailedError,
    FailureKind,
    Response,
    rejection,
    without_locals,
)
from .._runtime import call_in
from .auth import KeyProvider, Keyring, Secret, is_user_token, sealed
from .fairness import Usage
from .retry import RetryQuota, pause_before_retry, submission_is_ambiguous
from .transport import Transport


_NOT_FOUND, _FIRST_FAILURE = 404, 500


class Account:
    """
    What all callers of one tenant share: its key and its retry quota.

    Args:
        keyring: Where the key comes from.
        policy: How large the quota is.
        context: Where a key callable runs; None takes that of the running code.

    Attributes:
        retries: How many requests were made again.
        was_understood: Whether anything was answered that shows the base URL to be right.
        usage: What is done on the network.
    """

    def __init__(
        self, keyring: Keyring, policy: RetryPolicy, context: Context | None = None
    ) -> None:
        self.keyring = keyring
        self.usage: Usage = Usage()
        self._context: Context = copy_context() if context is None else context
        self.quota: RetryQuota = RetryQuota(policy.quota, policy.retry_cost)
        self.retries: int = 0
        self.was_understood: bool = False
        self._refresh_lock = anyio.Lock()
        self._latest: Secret | None = None

    async def key(self, refused: Secret | None) -> Secret:
        """Return a key; *refused* is one the service would not take."""
        try:
            return await (self._current() if refused is None else self._renewed(refused))
        except ServiceUnavailableError as error:
            error.maybe_sent = error.maybe_begun = False  # without a key nothing leaves
            raise

    def note(self, reply: Response) -> None:
        """Note an answer, which may show that the base URL is right."""
        if reply.status != _NOT_FOUND and reply.status < _FIRST_FAILURE:
            self.was_understood = True

    async def _current(self) -> Secret:
        source = self.keyring.source
        self._latest = source if isinstance(source, Secret) else await self._provided(source)
        return self._latest

    async def _provided(self, provider: KeyProvider) -> Secret:
        try:
            with without_locals():
                key: Secret = sealed(await call_in(self._context, provider))
        except CyberunError:
            raise
        except Exception as error:
            raise ServiceUnavailableError(
                f"the api_key callable failed with {type(error).__name__}"
            ) from error
        is_user_token(key)  # raises where it is no key
        return key

    async def _renewed(self, refused: Secret) -> Secret:
        # One request for a new key, however many watches were refused with the old one; but
        # nothing older than what the provider said last, which may have changed since.
        async with self._refresh_lock:
            latest = self._latest
            if latest is not None and latest != refused:
                return latest
            return await self._current()


class Caller:
    """Makes plain requests for a client, or for siblings of it with equal choices."""

    def __init__(
        self,
        transport: Transport,
        account: Account,
        *,
        policy: RetryPolicy,
        timeouts: Timeouts,
        draw: Callable[[], float],
        headers: Mapping[str, str],
        extra: Callable[[], Mapping[str, str]] = dict,
        submission_turn: Callable[[], Awaitable[None]] | None = None,
        suspicion: str | None = None,
    ) -> None:
        self._suspicion = suspicion
        self._submission_turn = submission_turn
        self._transport = transport
        self._account = account
        self._policy = policy
        self._timeouts = timeouts
        self._draw = draw
        self._headers = headers
        self._extra = extra

    @property
    def suspicion(self) -> str | None:
        """What to say of a 404 for as long as nothing else was ever answered."""
        return None if self._account.was_understood else self._suspicion

    async def headers(self, refused: Secret | None = None) -> tuple[Secret, dict[str, str]]:
        """Return a key and the headers it makes; *refused* is one the service would not take."""
        key = await self._account.key(refused)
        return key, {**self._headers, **self._extra(), **self._account.keyring.headers(key)}

    @property
    def can_refresh(self) -> bool:
        """Whether a refused key may be replaced."""
        return self._account.keyring.can_refresh

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json_body: Any = None,
        headers: Mapping[str, str] | None = None,
        is_submission: bool = False,
        is_check: bool = False,
        repeatable: bool = True,
        task: bool = False,
        total: float | None = None,
        departure: Departure | None = None,
    ) -> Response:
        """
        Make a request, repeat it as the policy allows, and return its successful reply.

        Each try has *total* seconds, where that is less than ``Timeouts.total``.
        A status check (*is_check*) goes before other requests. Whoever stops waiting finds
        in *departure* whether a request left that may have had an effect.

        Raises:
            RequestRejectedError: Or one of its kinds: the service said no.
            ServiceUnavailableError: It could not be reached or kept failing.
        """
        content = None if json_body is None else json.dumps(json_body).encode()
        refused: Secret | None = None
        renewed: Secret | None = None
        within = min(self._timeouts.total, math.inf if total is None else total)
        timeouts = attrs.evolve(self._timeouts, total=within)
        attempt = 0
        while True:
            attempt += 1
            if is_submission and self._submission_turn is not None:
                await self._submission_turn()
            key, sent = await self.headers(refused)
            if refused is not None:
                renewed, refused = key, None
            sent.update(headers or {})
            if content is not None:
                sent["Content-Type"] = "application/json"
            outcome = await self._once(
                method,
                path,
                headers=sent,
                params=params,
                content=content,
                fresh=is_submission,
                timeouts=timeouts,
                is_check=is_check,
                departure=departure,
            )
            if isinstance(outcome, Response):
                self._account.note(outcome)
                if outcome.is_success:
                    self._account.quota.give_back(retried=attempt > 1)
                    return outcome
                may_renew = self.can_refresh and renewed != key
                # A proxy's 401 does not prove that a submission has not gone further.
                is_refused = not is_submission or not submission_is_ambiguous(outcome)
                if outcome.status == 401 and may_renew and is_refused:
                    # A new key that is refused as well is not replaced again.
                    refused = key
                    attempt -= 1
                    continue
            pause = pause_before_retry(
                outcome,
                attempt=attempt if repeatable else self._policy.max_attempts,
                policy=self._policy,
                draw=self._draw(),
                is_submission=is_submission,
            )
            if pause is None or not self._account.quota.take():
                raise _failure(outcome, attempt, task=task, suspicion=self.suspicion)
            self._account.retries += 1
            if departure is not None:
                # Else it would not be repeated.
                departure.had_no_effect()
            await anyio.sleep(pause)

    async def _once(self, method: str, path: str, **options: Any) -> Response | ExchangeFailedError:
        try:
            with without_locals():
                return await self._transport.exchange(
                    method, path, usage=self._account.usage, **options
                )
        except ExchangeFailedError as error:
            return error


def _failure(
    outcome: Response | ExchangeFailedError, attempts: int, *, task: bool, suspicion: str | None
) -> CyberunError:
    if isinstance(outcome, Response):
        error = rejection(outcome, task=task, suspicion=suspicion)
        if isinstance(error, ServiceUnavailableError):
            error.attempts = attempts
            error.maybe_begun = submission_is_ambiguous(outcome)
        return error
    return unavailable(outcome, attempts)


def unavailable(failure: ExchangeFailedError, attempts: int = 1) -> ServiceUnavailableError:
    """Return the typed error for *failure*, with it as its cause."""
    advice = {
        FailureKind.TLS: "check the certificate and the base URL",
        FailureKind.PROXY: "check the proxy settings",
        FailureKind.PROXY_FAILED: "check the proxy",
        FailureKind.CONNECT: "check the base URL and the network",
    }.get(failure.kind)
    reason = f"the service could not be reached: {failure.reason}"
    error = ServiceUnavailableError(f"{reason} ({advice})" if advice else reason, attempts=attempts)
    error.maybe_sent = failure.maybe_sent
    error.maybe_begun = submission_is_ambiguous(failure)
    error.is_final = failure.kind in (FailureKind.TLS, FailureKind.PROXY)
    error.__cause__ = failure.__cause__
    return error
