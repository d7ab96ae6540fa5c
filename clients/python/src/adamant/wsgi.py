"""WSGI middleware: lets only requests with a valid token through.

    app = RequireToken(app, scopes=["orders:read"], audience="orders-api")

The application finds the `Answer` in `environ["adamant"]`. What is answered instead of it stands in
`adamant._gate`: 400, 401, 403 or 503.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from ._gate import Gate, Refusal, Verifier

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["RequireToken"]


class RequireToken:
    """Requests need a token that is valid and has what is named here. Without a `client` it shares
    one with all middleware of the process."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        scopes: str | Sequence[str] = (),
        audience: str | None = None,
        kind: str | None = None,
        client: Verifier | None = None,
    ) -> None:
        self._app = app
        self._gate = Gate(kind, audience, scopes, blocking=client)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        value: str | None = environ.get("HTTP_AUTHORIZATION")
        # PEP 3333: the text holds the bytes of the header, each as one character.
        asked = self._gate.ask([] if value is None else [value.encode("latin-1")])
        if isinstance(asked, Refusal):
            body = asked.body()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            status = HTTPStatus(asked.status)
            start_response(f"{status.value} {status.phrase}", headers + asked.headers)
            return [body]
        environ["adamant"] = asked
        return self._app(environ, start_response)
