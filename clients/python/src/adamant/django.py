"""For Django: only requests with a valid token reach the view.

One view, blocking or async:

    @require(scope="orders:read")
    def orders(request):
        return JsonResponse({"subject": request.adamant.subject})

All views: `"adamant.django.require_token"` in `MIDDLEWARE`, and what a token must have in the
setting `ADAMANT_REQUIRE`, such as `{"audience": "orders-api"}`; it may be left out.

The view finds the `Answer` in `request.adamant`. What is answered instead of it stands in
`adamant._gate`: 400, 401, 403 or 503.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from ._gate import AsyncVerifier, Gate, Refusal, Verifier

__all__ = ["require", "require_token"]

_View = Callable[..., Any]


def require(
    *,
    scope: str | Sequence[str] = (),
    audience: str | None = None,
    kind: str | None = None,
    client: Verifier | None = None,
    async_client: AsyncVerifier | None = None,
) -> Callable[[_View], _View]:
    """The view needs a token that is valid and has what is named here; `scope` is one, or several.
    Without a client it shares one with all middleware of the process."""
    gate = Gate(kind, audience, scope, client, async_client)

    def guard(view: _View) -> _View:
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                asked = await gate.ask_async(_values(request))
                if isinstance(asked, Refusal):
                    return _response(asked)
                request.adamant = asked
                return await view(request, *args, **kwargs)

            return guarded_async

        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            asked = gate.ask(_values(request))
            if isinstance(asked, Refusal):
                return _response(asked)
            request.adamant = asked
            return view(request, *args, **kwargs)

        return guarded

    return guard


@sync_and_async_middleware
def require_token(get_response: _View) -> _View:
    """Middleware: all views need a token that has what the setting `ADAMANT_REQUIRE` names."""
    return require(**getattr(settings, "ADAMANT_REQUIRE", {}))(get_response)


def _values(request: HttpRequest) -> list[bytes]:
    value = request.META.get("HTTP_AUTHORIZATION")
    return [] if value is None else [value.encode("latin-1", "replace")]


def _response(refusal: Refusal) -> HttpResponse:
    return HttpResponse(
        refusal.body(),
        status=refusal.status,
        content_type="application/json",
        headers=dict(refusal.headers),
    )
