"""Asks the issuing service: issue, look up, revoke and rotate tokens.

    issuer = Issuer()
    issued = issuer.issue("live", subject="customer-42", scopes=["orders:read"], expires="90d")
    hand_over(issued.token.expose())
    issuer.revoke(issued.id)

`AsyncIssuer` is the same for asyncio. The service listens at the Unix socket that
`ADAMANT_ISSUER_SOCKET` names, or at `/run/adamant-issuer/issuer.sock`; it knows its callers by
their user, so there is no login. What goes wrong is an `IssuerError`, with a class for each code.

Nothing is asked twice by itself: a request that is lost may have been recorded. With a
`request_id` of your own you may ask again; the service then changes nothing twice.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import (
    Any,
    Callable,
    TypeVar,
)
from urllib.parse import quote, urlencode

from ._errors import group_of
from ._issuing import (
    Busy,
    Dead,
    Expiry,
    Forbidden,
    History,
    HistoryEvent,
    InvalidRequest,
    Issued,
    IssuerError,
    NotFound,
    OutcomeUnknown,
    Page,
    Repeated,
    Revoked,
    Secret,
    TokenRecord,
    Unreachable,
    error_of,
    history_of,
    issued_of,
    page_of,
    record_of,
    revoked_of,
    time_text,
)

__all__ = [
    "AsyncIssuer",
    "Busy",
    "Dead",
    "Forbidden",
    "History",
    "HistoryEvent",
    "InvalidRequest",
    "Issued",
    "Issuer",
    "IssuerError",
    "NotFound",
    "OutcomeUnknown",
    "Repeated",
    "Revoked",
    "Secret",
    "TokenRecord",
    "Unreachable",
]

SOCKET_VARIABLE = "ADAMANT_ISSUER_SOCKET"
DEFAULT_SOCKET = "/run/adamant-issuer/issuer.sock"
#: Seconds. The service answers when the disk has what it recorded and the daemon serves it.
DEFAULT_TIMEOUT = 10.0

#: Far above the longest page of a list.
_ANSWER_BYTES_MAX = 64 << 20

T = TypeVar("T")


class Issuer:
    """Asks the issuing service. Threads may share it; each call has a connection of its own."""

    def __init__(self, socket: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._socket = socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET
        self._timeout = timeout

    def issue(
        self,
        kind: str,
        *,
        subject: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        meta: str | None = None,
        not_before: Expiry | None = None,
        expires: Expiry | None = None,
        request_id: str | None = None,
        on_behalf_of: str | None = None,
        ticket: str | None = None,
    ) -> Issued:
        """Makes a token. `expires` is a time, or a span from now such as `"90d"` or a
        `timedelta`. With a `request_id` it may be asked again without making two."""
        wanted = {
            "kind": kind,
            "subject": subject,
            "audience": audience,
            "scopes": list(scopes),
            "meta": meta,
            "not_before": not_before and time_text(not_before),
            "expires": expires and time_text(expires),
        }
        wanted.update(_why(request_id, on_behalf_of, ticket))
        return self._ask(issued_of, "POST", "/tokens", wanted)

    def get(self, token_id: str) -> TokenRecord:
        """What is known of a token."""
        return self._ask(record_of, "GET", _path(token_id))

    def list(self, *, subject: str | None = None, page_size: int = 100) -> Iterator[TokenRecord]:
        """All tokens, or those of a subject. Pages of at most 1000 are asked for as they are
        needed."""
        after: str | None = None
        while True:
            page = self._page(subject, page_size, after)
            yield from page.records
            after = page.next
            if after is None:
                return

    def revoke(
        self,
        token_id: str,
        *,
        reason: str | None = None,
        at: Expiry | None = None,
        request_id: str | None = None,
        on_behalf_of: str | None = None,
        ticket: str | None = None,
    ) -> Revoked:
        """Ends trust in a token, now or at a time, and for ever. Twice is no error."""
        wanted = {"reason": reason, "at": at and time_text(at)}
        wanted.update(_why(request_id, on_behalf_of, ticket))
        return self._ask(revoked_of, "POST", _path(token_id, "revoke"), wanted)

    def rotate(
        self,
        token_id: str,
        *,
        overlap: Expiry | None = None,
        expires: Expiry | None = None,
        request_id: str | None = None,
        on_behalf_of: str | None = None,
        ticket: str | None = None,
    ) -> Issued:
        """Makes a token in the place of another, with the same claims. The other one lives on for
        `overlap`; without it, it is dead at once."""
        wanted = {
            "overlap": overlap and time_text(overlap),
            "expires": expires and time_text(expires),
        }
        wanted.update(_why(request_id, on_behalf_of, ticket))
        return self._ask(issued_of, "POST", _path(token_id, "rotate"), wanted)

    def revoke_token(self, token: str) -> None:
        """Ends trust in a token that somebody hands in (RFC 7009): one that leaked, say. Whether
        there is such a token is not told."""
        body = urlencode({"token": token}).encode()
        self._send("POST", "/revoke", body, "application/x-www-form-urlencoded")

    def history(self, token_id: str) -> History:
        """All events about a token, with proofs."""
        return self._ask(history_of, "GET", _path(token_id, "history"))

    def __repr__(self) -> str:
        return f"Issuer({self._socket!r}, timeout={self._timeout})"

    def _page(self, subject: str | None, page_size: int, after: str | None) -> Page:
        asked = {"subject": subject, "limit": str(page_size), "after": after}
        query = urlencode({name: text for name, text in asked.items() if text is not None})
        return self._ask(page_of, "GET", f"/tokens?{query}")

    def _ask(
        self,
        read: Callable[[Mapping[str, Any]], T],
        method: str,
        path: str,
        wanted: Mapping[str, Any] | None = None,
    ) -> T:
        body = None
        if wanted is not None:
            given = {name: value for name, value in wanted.items() if value is not None}
            body = json.dumps(given).encode()
        answer = self._send(method, path, body, "application/json")
        try:
            return read(json.loads(answer))
        except (AttributeError, KeyError, TypeError, ValueError):
            # The answer may hold a token, so neither it nor the cause is shown.
            raise self._unanswered(method, "its answer cannot be read") from None

    def _send(self, method: str, path: str, body: bytes | None, content_type: str) -> bytes:
        connection = _Connection(self._socket, self._timeout)
        try:
            self._connect(connection)
            headers = {"Connection": "close", "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = content_type
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                answer = response.read(_ANSWER_BYTES_MAX)
            except (OSError, http.client.HTTPException) as error:
                raise self._unanswered(method, f"no answer ({type(error).__name__})") from None
        finally:
            connection.close()
        if response.status not in (200, 201):
            raise error_of(_problem(response, answer), response.headers.get("Retry-After"))
        return answer

    def _connect(self, connection: _Connection) -> None:
        try:
            connection.connect()
        except OSError as error:
            if isinstance(error, PermissionError):
                what = f"add the user of this process to the group {group_of(self._socket)}"
            else:
                what = f"start adamant-issuer, or set {SOCKET_VARIABLE} to its socket"
            message = f"no issuing service at {self._socket}: {error.strerror or error}; {what}"
            raise Unreachable("unreachable", message) from None

    def _unanswered(self, method: str, why: str) -> IssuerError:
        message = f"the issuing service at {self._socket}: {why}"
        if method == "GET":
            return Unreachable("unreachable", message)
        return OutcomeUnknown("outcome_unknown", f"{message}; what was asked may be recorded")


class AsyncIssuer:
    """The same for asyncio: each call waits in a thread. A call that is cancelled may be recorded
    all the same."""

    def __init__(self, socket: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._issuer = Issuer(socket, timeout=timeout)

    async def issue(
        self,
        kind: str,
        *,
        subject: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        meta: str | None = None,
        not_before: Expiry | None = None,
        expires: Expiry | None = None,
        request_id: str | None = None,
        on_behalf_of: str | None = None,
        ticket: str | None = None,
    ) -> Issued:
        """As `Issuer.issue`."""
        return await asyncio.to_thread(
            self._issuer.issue,
            kind,
            subject=subject,
            audience=audience,
            scopes=scopes,
            meta=meta,
            not_before=not_before,
            expires=expires,
            request_id=request_id,
            on_behalf_of=on_behalf_of,
            ticket=ticket,
        )

    async def get(self, token_id: str) -> TokenRecord:
        """As `Issuer.get`."""
        return await asyncio.to_thread(self._issuer.get, token_id)

    async def list(
        self, *, subject: str | None = None, page_size: int = 100
    ) -> AsyncIterator[TokenRecord]:
        """As `Issuer.list`: `async for record in issuer.list(...)`."""
        after: str | None = None
        while True:
            page = await asyncio.to_thread(self._issuer._page, subject, page_size, after)
            for record in page.records:
                yield record
            after = page.next
            if after is None:
                return

    async def revoke(
        self,
        token_id: str,
        *,
        reason: str | None = None,
        at: Expiry | None = None,
        request_id: str | None = None,
        on_behalf_of: str | None = None,
        ticket: str | None = None,
    ) -> Revoked:
        """As `Issuer.revoke`."""
        return await asyncio.to_thread(
            self._issuer.revoke,
            token_id,
            reason=reason,
            at=at,
            request_id=request_id,
            on_behalf_of=on_behalf_of,
            ticket=ticket,
        )

    async def rotate(
        self,
        token_id: str,
        *,
        overlap: Expiry | None = None,
        expires: Expiry | None = None,
        request_id: str | None = None,
        on_behalf_of: str | None = None,
        ticket: str | None = None,
    ) -> Issued:
        """As `Issuer.rotate`."""
        return await asyncio.to_thread(
            self._issuer.rotate,
            token_id,
            overlap=overlap,
            expires=expires,
            request_id=request_id,
            on_behalf_of=on_behalf_of,
            ticket=ticket,
        )

    async def revoke_token(self, token: str) -> None:
        """As `Issuer.revoke_token`."""
        await asyncio.to_thread(self._issuer.revoke_token, token)

    async def history(self, token_id: str) -> History:
        """As `Issuer.history`."""
        return await asyncio.to_thread(self._issuer.history, token_id)

    def __repr__(self) -> str:
        return f"Async{self._issuer!r}"


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        # The name goes into the header `Host`, which has no meaning here.
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _path(token_id: str, action: str = "") -> str:
    path = f"/tokens/{quote(token_id, safe='')}"
    return f"{path}/{action}" if action else path


def _why(
    request_id: str | None, on_behalf_of: str | None, ticket: str | None
) -> dict[str, str | None]:
    return {"request_id": request_id, "on_behalf_of": on_behalf_of, "ticket": ticket}


def _problem(response: http.client.HTTPResponse, answer: bytes) -> Mapping[str, Any]:
    try:
        problem = json.loads(answer)
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        return problem
    return {"status": response.status, "title": f"{response.status} {response.reason}"}
