"""The FastAPI example, as it stands in the repository."""

import importlib.util
import os
import threading
import unittest
from base64 import b64encode
from typing import Any
from unittest import mock

from servers import request, uvicorn_server
from support import ROOT, TIMEOUT, Activated, Daemon, Home, Issuing, need, need_programs

from adamant import AsyncClient
from adamant._gate import shared
from adamant.issuer import Issuer
from adamant.testing import FakeClient

PASSWORD = "of the test"


FILE = ROOT / "examples" / "python" / "fastapi_app.py"


def app(**environment: str) -> Any:
    """The example's app."""
    spec = importlib.util.spec_from_file_location("fastapi_app", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, {"ADMIN_PASSWORD": PASSWORD, **environment}):
        spec.loader.exec_module(module)
    return module.app


def basic(name: str, password: str) -> list[tuple[str, str]]:
    return [("Authorization", "Basic " + b64encode(f"{name}:{password}".encode()).decode())]


def bearer(key: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {key}")]


ADMIN = basic("admin", PASSWORD)


class Example(unittest.TestCase):
    def setUp(self) -> None:
        need("fastapi", "uvicorn")

    def test_it_does_not_start_without_a_password(self) -> None:
        with mock.patch.dict(os.environ), self.assertRaises(KeyError):
            os.environ.pop("ADMIN_PASSWORD", None)
            exec(compile(FILE.read_text(), str(FILE), "exec"), {"__name__": "fastapi_app"})

    def test_only_the_administrator_makes_and_revokes_keys(self) -> None:
        others = [[], basic("admin", "wrong"), basic("ann", PASSWORD), bearer(PASSWORD)]
        asks = [("/keys?customer=c", "POST"), ("/keys/a", "DELETE")]
        with uvicorn_server(app(ADAMANT_ISSUER_SOCKET="/nonexistent/issuer.sock")) as port:
            for path, method in asks:
                for headers in others:
                    got = request(port, headers, path, method)
                    self.assertEqual(got[:2], (401, "Basic"))
                got = request(port, ADMIN, path, method)
                self.assertEqual((got[0], got[3]), (503, {"detail": "unreachable"}))

    def test_orders_need_a_key(self) -> None:
        with FakeClient() as fake, uvicorn_server(app()) as port:
            fake.trust("key", subject="customer-42", scopes=["orders:read"])
            fake.trust("other", subject="customer-42")
            self.assertEqual(request(port, [])[0], 401)
            self.assertEqual(request(port, bearer("other"))[0], 403)
            found = request(port, bearer("key"))
            self.assertEqual(found[3], {"customer": "customer-42", "orders": []})

    def test_a_key_lives_from_its_making_to_its_revocation(self) -> None:
        need_programs("adamant", "adamant-issuer")
        home = Home()
        self.addCleanup(home.remove)
        daemon = Daemon(home)
        self.addCleanup(daemon.kill)
        issuing = Issuing(home, daemon)
        self.addCleanup(issuing.kill)
        client = AsyncClient(daemon.socket, timeout=TIMEOUT)
        started = uvicorn_server(app(ADAMANT_ISSUER_SOCKET=issuing.socket))
        with mock.patch.object(shared, "aio", client), started as port:
            status, _, _, made = request(port, ADMIN, "/keys?customer=customer-42", "POST")
            self.assertEqual(status, 201)
            self.assertEqual(request(port, bearer(made["key"]))[3]["customer"], "customer-42")
            self.assertEqual(request(port, ADMIN, f"/keys/{made['id']}", "DELETE")[0], 204)
            self.assertEqual(request(port, bearer(made["key"]))[0], 401)
            self.assertEqual(request(port, ADMIN, "/keys/00000000000000", "DELETE")[0], 404)

    def test_restarts_and_rotations_lose_no_request(self) -> None:
        need_programs("adamant", "adamantd", "adamant-issuer")
        home = Home()
        self.addCleanup(home.remove)
        daemon = Activated(home)
        self.addCleanup(daemon.kill)
        issuing = Issuing(home, daemon)
        self.addCleanup(issuing.kill)
        client = AsyncClient(daemon.socket, timeout=TIMEOUT)
        started = uvicorn_server(app(ADAMANT_ISSUER_SOCKET=issuing.socket))
        done = threading.Event()
        statuses: list[int] = []
        with mock.patch.object(shared, "aio", client), started as port:
            made = request(port, ADMIN, "/keys?customer=customer-42", "POST")[3]

            def ask() -> None:
                while not done.is_set():
                    statuses.append(request(port, bearer(made["key"]))[0])

            asking = [threading.Thread(target=ask) for _ in range(4)]
            for each in asking:
                each.start()
            issuer = Issuer(issuing.socket)
            for _ in range(10):
                other = issuer.issue("live", scopes=["orders:read"])
                rotated = issuer.rotate(other.id)
                self.assertEqual(request(port, bearer(other.token.expose()))[0], 401)
                self.assertEqual(request(port, bearer(rotated.token.expose()))[0], 200)
                daemon.restart()
            done.set()
            for each in asking:
                each.join()
        self.assertGreater(len(statuses), 100)
        self.assertEqual(set(statuses), {200})


if __name__ == "__main__":
    unittest.main()
