"""What all middleware does: take the token from a request, ask, and say what to answer instead.

The token stands in `Authorization: Bearer` (RFC 6750, 2.1), once, and nowhere else: what is in a
query string ends up in logs. What is answered instead of the service (RFC 6750, 3):

| case | status | `WWW-Authenticate` |
|---|---|---|
| no token | 401 | `Bearer` |
| more than one, or not a bearer token | 400 | `Bearer error="invalid_request"` |
| not valid | 401 | `Bearer error="invalid_token"` |
| valid, but not for this | 403 | `Bearer error="insufficient_scope"`, and the scopes |
| the daemon could not be asked | 503, `Retry-After` | |

*Not for this* is a token of another kind or for another audience, or one that lacks a scope.
Why a token is not valid is not told: it would tell whoever found one whether it was ever one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from . import _session
from ._aio import AsyncClient
from ._answer import Answer
from ._client import Client
from ._errors import Unavailable
from ._session import Token

#: Where operators read why the daemon could not be asked.
log = logging.getLogger("adamant")

#: Seconds. A daemon that starts needs less.
_RETRY_AFTER = "1"
_LACKS_A_RIGHT = ("wrong_kind", "wrong_audience", "insufficient_scope")


class Verifier(Protocol):
    """What asks: a `Client`, or one that a test has in its place."""

    def verify(
        self,
        token: Token,
        *,
        kind: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        claims: bool = True,
    ) -> Answer: ...


class AsyncVerifier(Protocol):
    """What asks: an `AsyncClient`, or one that a test has in its place."""

    async def verify(
        self,
        token: Token,
        *,
        kind: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        claims: bool = True,
    ) -> Answer: ...


class Shared:
    """The clients of all middleware that was given none of its own."""

    def __init__(self) -> None:
        self.blocking: Verifier | None = None
        self.aio: AsyncVerifier | None = None


shared = Shared()


class Refusal(NamedTuple):
    """What is answered instead of the service."""

    status: int
    error: str
    headers: list[tuple[str, str]]

    def body(self) -> bytes:
        """JSON."""
        return b'{"error":"%s"}' % self.error.encode()


_NO_TOKEN = Refusal(401, "no_token", [("WWW-Authenticate", "Bearer")])
_NOT_BEARER = Refusal(
    400, "invalid_request", [("WWW-Authenticate", 'Bearer error="invalid_request"')]
)
_NOT_VALID = Refusal(401, "invalid_token", [("WWW-Authenticate", 'Bearer error="invalid_token"')])
_COULD_NOT_ASK = Refusal(503, "temporarily_unavailable", [("Retry-After", _RETRY_AFTER)])


class Gate:
    """What a request must bring."""

    def __init__(
        self,
        kind: str | None,
        audience: str | None,
        scopes: str | Sequence[str],
        blocking: Verifier | None = None,
        aio: AsyncVerifier | None = None,
    ) -> None:
        self._kind = kind
        self._audience = audience
        self._scopes = (scopes,) if isinstance(scopes, str) else tuple(scopes)
        self._blocking = blocking
        self._aio = aio
        # What no token can have is a mistake that shows at the start, and not at a request.
        _session.question(kind, audience, self._scopes, True)

    def ask(self, values: Sequence[bytes]) -> Answer | Refusal:
        """The answer for a request with these values of `Authorization`, if it is valid."""
        token = _token(values)
        if isinstance(token, Refusal):
            return token
        client = self._blocking or shared.blocking
        if client is None:
            client = shared.blocking = Client()
        try:
            answer = client.verify(
                token, kind=self._kind, audience=self._audience, scopes=self._scopes
            )
        except Unavailable as error:
            log.error("%s", error)
            return _COULD_NOT_ASK
        return answer if answer.valid else self._refusal(answer)

    async def ask_async(self, values: Sequence[bytes]) -> Answer | Refusal:
        """As `ask`, from an event loop."""
        token = _token(values)
        if isinstance(token, Refusal):
            return token
        client = self._aio or shared.aio
        if client is None:
            client = shared.aio = AsyncClient()
        try:
            answer = await client.verify(
                token, kind=self._kind, audience=self._audience, scopes=self._scopes
            )
        except Unavailable as error:
            log.error("%s", error)
            return _COULD_NOT_ASK
        return answer if answer.valid else self._refusal(answer)

    def _refusal(self, answer: Answer) -> Refusal:
        if answer.verdict not in _LACKS_A_RIGHT:
            return _NOT_VALID
        challenge = 'Bearer error="insufficient_scope"'
        if self._scopes:
            challenge += f', scope="{" ".join(self._scopes)}"'
        return Refusal(403, "insufficient_scope", [("WWW-Authenticate", challenge)])


def _token(values: Sequence[bytes]) -> bytes | Refusal:
    if not values:
        return _NO_TOKEN
    # The name of the scheme is in any case (RFC 9110, 11.1).
    scheme, _, token = values[0].partition(b" ")
    token = token.strip(b" ")
    if len(values) > 1 or scheme.lower() != b"bearer" or not token:
        return _NOT_BEARER
    # Servers write two headers of the same name as one, with a comma.
    if b" " in token or b"," in token:
        return _NOT_BEARER
    return token
