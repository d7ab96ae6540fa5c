"""A dependency for FastAPI: only requests with a valid token reach the endpoint.

    @app.get("/orders")
    async def orders(caller: Answer = Depends(require(scope="orders:read"))):
        return {"subject": caller.subject}

What is answered instead stands in `adamant._gate`: 400, 401, 403 or 503.
"""

# No `from __future__ import annotations`: FastAPI reads those of `__call__` while it runs.
from collections.abc import Sequence
from typing import Optional, Union

from fastapi import HTTPException, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from ._answer import Answer
from ._gate import AsyncVerifier, Gate, Refusal

__all__ = ["require"]


class require(SecurityBase):
    """The endpoint needs a token that is valid and has what is named here; `scope` is one, or
    several. Without a `client` it shares one with all middleware of the process. It shows in the
    OpenAPI document as a bearer token.

    Its name is written small since it reads as a function where it is used."""

    def __init__(
        self,
        *,
        scope: Union[str, Sequence[str]] = (),
        audience: Optional[str] = None,
        kind: Optional[str] = None,
        client: Optional[AsyncVerifier] = None,
    ) -> None:
        self.model = HTTPBearer()
        self.scheme_name = "token"
        self._gate = Gate(kind, audience, scope, aio=client)

    async def __call__(self, request: Request) -> Answer:
        values = [value for name, value in request.scope["headers"] if name == b"authorization"]
        asked = await self._gate.ask_async(values)
        if isinstance(asked, Refusal):
            raise HTTPException(asked.status, detail=asked.error, headers=dict(asked.headers))
        return asked
