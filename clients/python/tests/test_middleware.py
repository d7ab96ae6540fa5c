"""All middleware, in real servers, with a real daemon."""

import asyncio
import json
import logging
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from servers import request, uvicorn_server, wsgi_server
from support import SOME_TOKEN, TIMEOUT, Daemon, Home, need, need_programs

from adamant import AsyncClient, Client
from adamant.asgi import RequireToken as AsgiRequireToken
from adamant.testing import FakeClient
from adamant.wsgi import RequireToken as WsgiRequireToken

NEED: dict[str, Any] = {"scope": "orders:read", "audience": "api"}
SCOPES: dict[str, Any] = {"scopes": "orders:read", "audience": "api"}

INVALID = 'Bearer error="invalid_token"'
NOT_BEARER = 'Bearer error="invalid_request"'
LACKS = 'Bearer error="insufficient_scope", scope="orders:read"'


def asgi_app() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = json.dumps({"subject": scope["adamant"].subject}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"subject": environ["adamant"].subject}).encode()]


# Django writes a line for each request that is refused.
logging.getLogger("django.request").setLevel(logging.CRITICAL)


class Cases:
    """What every middleware answers. The classes below are each one middleware in a server."""

    home: Home
    daemon: Daemon

    @classmethod
    def setUpClass(cls: Any) -> None:
        need_programs("adamant")
        cls.need_modules()
        cls.home = Home()
        cls.addClassCleanup(cls.home.remove)
        good = {"scopes": ["orders:read"], "audience": "api", "subject": "customer-42"}
        cls.good = cls.home.issue(**good)["token"]
        cls.without_scope = cls.home.issue(audience="api")["token"]
        cls.without_audience = cls.home.issue(scopes=["orders:read"])["token"]
        revoked = cls.home.issue(**good)
        cls.revoked = revoked["token"]
        generation = cls.home.revoke(revoked["id"])
        cls.daemon = Daemon(cls.home)
        cls.addClassCleanup(lambda: cls.daemon.kill())
        cls.daemon.wait_for(generation)

    @classmethod
    def need_modules(cls) -> None:
        """The modules that the server needs."""

    def serve(self, **client: Any) -> Any:
        """The server; `client` is empty when the middleware should use the shared one."""
        raise NotImplementedError

    def client(self) -> dict[str, Any]:
        raise NotImplementedError

    def test_who_gets_in_and_what_the_others_are_told(self: Any) -> None:
        def bearer(token: str) -> list[tuple[str, str]]:
            return [("Authorization", f"Bearer {token}")]

        cases = [
            ([], 401, "Bearer"),
            ([("Authorization", "Basic YWRtaW46cHc=")], 400, NOT_BEARER),
            ([("Authorization", "Bearer")], 400, NOT_BEARER),
            (bearer(self.good) + bearer(self.revoked), 400, NOT_BEARER),
            (bearer(SOME_TOKEN), 401, INVALID),
            (bearer("\xe9"), 401, INVALID),
            (bearer(self.revoked), 401, INVALID),
            (bearer(self.without_scope), 403, LACKS),
            (bearer(self.without_audience), 403, LACKS),
        ]
        with self.serve(**self.client()) as port:
            for headers, status, challenge in cases:
                with self.subTest(status=status, challenge=challenge):
                    self.assertEqual(request(port, headers)[:3], (status, challenge, None))
            for name, scheme in (("Authorization", "Bearer"), ("authorization", "bEARER")):
                got = request(port, [(name, f"{scheme} {self.good}")])
                self.assertEqual(got, (200, None, None, {"subject": "customer-42"}))
            query = request(port, [], f"/orders?access_token={self.good}")
            self.assertEqual(query[:2], (401, "Bearer"))

    def test_a_daemon_that_is_gone_is_503_and_a_line_in_the_log(self: Any) -> None:
        client = self.client()
        self.daemon.kill()
        self.addCleanup(self.daemon.start)
        with self.serve(**client) as port, self.assertLogs("adamant", logging.ERROR) as logs:
            got = request(port, [("Authorization", f"Bearer {self.good}")])
        self.assertEqual(got[:3], (503, None, "1"))
        self.assertIn(self.daemon.socket, logs.output[0])
        self.assertNotIn(self.good[-36:], "".join(logs.output) + json.dumps(got[3]))

    def test_a_test_has_a_fake_in_the_place_of_the_daemon(self: Any) -> None:
        with FakeClient() as fake, self.serve() as port:
            fake.trust("any", audience="api", scopes=["orders:read"], subject="customer-7")
            headers = [("Authorization", "Bearer any")]
            self.assertEqual(request(port, headers), (200, None, None, {"subject": "customer-7"}))
            fake.revoke("any")
            self.assertEqual(request(port, headers)[:2], (401, INVALID))
            fake.available = False
            with self.assertLogs("adamant", logging.ERROR):
                self.assertEqual(request(port, headers)[:3], (503, None, "1"))


class Asgi(Cases, unittest.TestCase):
    @classmethod
    def need_modules(cls) -> None:
        need("uvicorn")

    def client(self) -> dict[str, Any]:
        return {"client": AsyncClient(self.daemon.socket, timeout=TIMEOUT)}

    def serve(self, **client: Any) -> Any:
        return uvicorn_server(AsgiRequireToken(asgi_app(), **SCOPES, **client))


class Wsgi(Cases, unittest.TestCase):
    def client(self) -> dict[str, Any]:
        client = Client(self.daemon.socket, timeout=TIMEOUT)
        self.addCleanup(client.close)
        return {"client": client}

    def serve(self, **client: Any) -> Any:
        return wsgi_server(WsgiRequireToken(wsgi_app, **SCOPES, **client))


class FastApi(Asgi):
    @classmethod
    def need_modules(cls) -> None:
        need("uvicorn", "fastapi")

    def app(self, **client: Any) -> Any:
        from fastapi import Depends, FastAPI

        from adamant.fastapi import require

        app = FastAPI()

        @app.get("/orders")
        async def orders(caller: Any = Depends(require(**NEED, **client))) -> dict[str, Any]:
            return {"subject": caller.subject}

        return app

    def serve(self, **client: Any) -> Any:
        return uvicorn_server(self.app(**client))

    def test_the_openapi_document_says_that_a_bearer_token_is_needed(self) -> None:
        document = self.app().openapi()
        (scheme,) = document["components"]["securitySchemes"].values()
        self.assertEqual((scheme["type"], scheme["scheme"]), ("http", "bearer"))
        self.assertEqual(document["paths"]["/orders"]["get"]["security"], [{"token": []}])


def django_views(**client: Any) -> Any:
    """A module of URLs, with one view that is guarded."""
    import types

    import django
    from django.conf import settings
    from django.http import JsonResponse
    from django.urls import path

    from adamant.django import require

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", LOGGING_CONFIG=None)
        django.setup()

    def orders(request: Any) -> Any:
        return JsonResponse({"subject": request.adamant.subject})

    async def orders_async(request: Any) -> Any:
        return JsonResponse({"subject": request.adamant.subject})

    urls = types.ModuleType("urls")
    names = {"client": "async_client"}
    aio = {names[name]: value for name, value in client.items()}
    urls.guarded = [path("orders", require(**NEED, **client)(orders))]
    urls.guarded_async = [path("orders", require(**NEED, **aio)(orders_async))]
    urls.bare = [path("orders", orders)]
    urls.bare_async = [path("orders", orders_async)]
    return urls


@contextmanager
def django_served(urls: Any, patterns: str, server: Any, **settings: Any) -> Iterator[int]:
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.test import override_settings
    from django.urls import clear_url_caches

    urls.urlpatterns = getattr(urls, patterns)
    clear_url_caches()
    with override_settings(ROOT_URLCONF=urls, **settings):
        app = get_wsgi_application() if server is wsgi_server else get_asgi_application()
        # Django has no lifespan; uvicorn goes on without.
        with server(app) as port:
            yield port


class Django(Wsgi):
    @classmethod
    def need_modules(cls) -> None:
        need("django")

    def serve(self, **client: Any) -> Any:
        return django_served(django_views(**client), "guarded", wsgi_server)


class DjangoAsync(Asgi):
    @classmethod
    def need_modules(cls) -> None:
        need("django", "uvicorn")

    def serve(self, **client: Any) -> Any:
        return django_served(django_views(**client), "guarded_async", uvicorn_server)


MIDDLEWARE = {"MIDDLEWARE": ["adamant.django.require_token"]}


class DjangoMiddleware(Django):
    def serve(self, **client: Any) -> Any:
        setting = {"ADAMANT_REQUIRE": {**NEED, **client}, **MIDDLEWARE}
        return django_served(django_views(), "bare", wsgi_server, **setting)


class DjangoMiddlewareAsync(DjangoAsync):
    def serve(self, **client: Any) -> Any:
        aio = {"async_client": client["client"]} if client else {}
        setting = {"ADAMANT_REQUIRE": {**NEED, **aio}, **MIDDLEWARE}
        return django_served(django_views(), "bare_async", uvicorn_server, **setting)


class WebSockets(unittest.TestCase):
    def connect(self, token: str, extensions: dict[str, Any]) -> list[Any]:
        """What the middleware sends to a socket that wants to be opened with this token."""
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept", "subject": scope["adamant"].subject})

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {token}".encode())]
        scope = {"type": "websocket", "headers": headers, "extensions": extensions}
        with FakeClient() as fake:
            fake.trust("good", subject="customer-42")
            asyncio.run(AsgiRequireToken(app)(scope, mock.AsyncMock(), send))
        return sent

    def test_only_a_valid_token_opens_one(self) -> None:
        accepted = {"type": "websocket.accept", "subject": "customer-42"}
        self.assertEqual(self.connect("good", {}), [accepted])
        self.assertEqual(self.connect("bad", {}), [{"type": "websocket.close", "code": 1008}])

    def test_the_answer_is_whole_where_the_server_can_give_it(self) -> None:
        start, body = self.connect("bad", {"websocket.http.response": {}})
        self.assertEqual((start["type"], start["status"]), ("websocket.http.response.start", 401))
        self.assertIn((b"www-authenticate", INVALID.encode()), start["headers"])
        self.assertEqual(body["body"], b'{"error":"invalid_token"}')


class Mistakes(unittest.TestCase):
    def test_what_no_token_can_have_shows_at_the_start(self) -> None:
        with self.assertRaises(ValueError):
            WsgiRequireToken(wsgi_app, scopes="orders:read orders:write")


if __name__ == "__main__":
    unittest.main()
