"""ASGI middleware: lets only requests with a valid token through.

    app = RequireToken(app, scopes=["orders:read"], audience="orders-api")

The application finds the `Answer` in `scope["adamant"]`; with Starlette that is
`request.scope["adamant"]`. What is answered instead of it stands in `adamant._gate`: 400, 401, 403
or 503.
"""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping, Sequence
from typing import Any, Callable

from ._gate import AsyncVerifier, Gate, Refusal

__all__ = ["RequireToken"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

#: RFC 6455, 7.4.1: the request violates a policy.
_POLICY_VIOLATION = 1008


class RequireToken:
    """Requests and web sockets need a token that is valid and has what is named here. Without a
    `client` it shares one with all middleware of the process."""

    def __init__(
        self,
        app: _App,
        *,
        scopes: str | Sequence[str] = (),
        audience: str | None = None,
        kind: str | None = None,
        client: AsyncVerifier | None = None,
    ) -> None:
        self._app = app
        self._gate = Gate(kind, audience, scopes, aio=client)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        asked = await self._gate.ask_async(values)
        if not isinstance(asked, Refusal):
            await self._app({**scope, "adamant": asked}, receive, send)
        elif scope["type"] == "http":
            await _respond("http.response", asked, send)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await _respond("websocket.http.response", asked, send)
        else:
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


async def _respond(kind: str, refusal: Refusal, send: _Send) -> None:
    body = refusal.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in refusal.headers),
    ]
    start: dict[str, Any] = {"type": f"{kind}.start", "status": refusal.status, "headers": headers}
    await send(start)
    await send({"type": f"{kind}.body", "body": body})
