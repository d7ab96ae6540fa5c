"""The issuing service: its contract with a server that follows a script, and a real one."""

import asyncio
import json
import logging
import os
import socketserver
import tempfile
import threading
import unittest
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any, Optional
from unittest import mock

from support import SOME_TOKEN, TIMEOUT, Daemon, Home, Issuing, need_programs

from adamant import Client
from adamant.issuer import (
    AsyncIssuer,
    Busy,
    Dead,
    Forbidden,
    InvalidRequest,
    Issuer,
    IssuerError,
    NotFound,
    OutcomeUnknown,
    Repeated,
    Secret,
    TokenRecord,
    Unreachable,
)

ISSUED = {
    "token": SOME_TOKEN,
    "id": "V6T2UmxQamt62t",
    "event": 17,
    "generation": 9,
    "served": True,
    "expires": "2027-01-31T12:00:00Z",
}
RECORD = {
    "id": "V6T2UmxQamt62t",
    "state": "valid",
    "kind": "live",
    "audience": "api",
    "scopes": ["orders:read"],
    "subject": "customer-42",
    "meta": None,
    "issued": "2026-01-31T12:00:00Z",
    "not_before": None,
    "expires": "2027-01-31T12:00:00Z",
    "revoked_at": None,
    "reason": None,
    "predecessor": None,
    "successor": None,
    "event": 17,
}
EXPIRES = datetime(2027, 1, 31, 12, tzinfo=timezone.utc)


class Scripted:
    """A server at a Unix socket: gives one answer after the other, and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.socket = f"{self._folder.name}/issuer.sock"
        self.asked: list[Any] = []
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def handle_any(handler: "Handler") -> None:
                length = int(handler.headers["Content-Length"] or 0)
                body = handler.rfile.read(length).decode()
                kind = handler.headers["Content-Type"]
                self.asked.append((handler.command, handler.path, kind, body))
                answer = left.pop(0)
                if answer is None:
                    return
                status, told, headers = answer
                handler.send_response(status)
                for name, value in headers.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(told if isinstance(told, bytes) else json.dumps(told).encode())

            do_GET = do_POST = handle_any

        class Server(socketserver.ThreadingUnixStreamServer):
            def get_request(self) -> Any:
                sock, _ = super().get_request()
                return sock, ("", 0)

        self._server = Server(self.socket, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()


def ok(told: Any, status: int = 200) -> Any:
    return status, told, {"Content-Type": "application/json"}


def problem(status: int, code: str, headers: Optional[dict[str, str]] = None, **more: Any) -> Any:
    told = {"title": "t", "status": status, "detail": "why it is so", "code": code, **more}
    return status, told, {"Content-Type": "application/problem+json", **(headers or {})}


class Contract(unittest.TestCase):
    def test_issue_says_what_is_wanted_and_gives_what_was_made(self) -> None:
        with Scripted(ok(ISSUED, 201)) as server:
            issued = Issuer(server.socket).issue(
                "live",
                subject="customer-42",
                audience="api",
                scopes=("orders:read",),
                expires=EXPIRES,
                not_before=timedelta(hours=1),
                request_id="r-1",
                on_behalf_of="ann",
                ticket="T-9",
            )
        (method, path, kind, body) = server.asked[0]
        self.assertEqual((method, path, kind), ("POST", "/tokens", "application/json"))
        self.assertEqual(
            json.loads(body),
            {
                "kind": "live",
                "subject": "customer-42",
                "audience": "api",
                "scopes": ["orders:read"],
                "expires": "2027-01-31T12:00:00Z",
                "not_before": "3600s",
                "request_id": "r-1",
                "on_behalf_of": "ann",
                "ticket": "T-9",
            },
        )
        self.assertEqual(issued.token.expose(), SOME_TOKEN)
        self.assertEqual((issued.id, issued.event, issued.generation), ("V6T2UmxQamt62t", 17, 9))
        self.assertEqual((issued.served, issued.expires), (True, EXPIRES))

    def test_a_new_token_is_in_no_text_that_is_made_of_it(self) -> None:
        with Scripted(ok(ISSUED, 201)) as server:
            issued = Issuer(server.socket).issue("live")
        for text in (f"{issued}", repr(issued), str(issued.token), f"{issued.token}"):
            self.assertIn("acme_live_1V6T2UmxQamt62t...", text)
            self.assertNotIn(SOME_TOKEN[-36:], text)
        with self.assertLogs("a service", logging.INFO) as logs:
            logging.getLogger("a service").info("made %s", issued)
        self.assertNotIn(SOME_TOKEN[-36:], logs.output[0])
        with self.assertRaises(TypeError):
            json.dumps(issued.token)
        self.assertEqual(repr(Secret("of another system")), "...")

    def test_get_gives_what_is_known(self) -> None:
        with Scripted(ok({**RECORD, "something_new": 1})) as server:
            record = Issuer(server.socket).get("a/b?c")
        self.assertEqual(server.asked[0][:2], ("GET", "/tokens/a%2Fb%3Fc"))
        self.assertEqual((record.state, record.scopes), ("valid", ("orders:read",)))
        self.assertEqual((record.expires, record.meta), (EXPIRES, None))

    def test_list_asks_for_pages_as_they_are_needed(self) -> None:
        pages = [{"tokens": [RECORD] * 2, "next": "c&1"}, {"tokens": [RECORD], "next": None}]
        with Scripted(*map(ok, pages)) as server:
            records = Issuer(server.socket).list(subject="customer 42", page_size=2)
            self.assertEqual(server.asked, [])
            next(records)
            self.assertEqual(len(server.asked), 1)
            self.assertEqual(len(list(records)), 2)
        self.assertEqual(server.asked[0][1], "/tokens?subject=customer+42&limit=2")
        self.assertEqual(server.asked[1][1], "/tokens?subject=customer+42&limit=2&after=c%261")

        async def collect(path: str) -> list[TokenRecord]:
            return [record async for record in AsyncIssuer(path).list()]

        with Scripted(*map(ok, pages)) as server:
            self.assertEqual(len(asyncio.run(collect(server.socket))), 3)

    def test_revoke_and_rotate(self) -> None:
        revoked = {"id": "a", "event": 3, "already": True, "generation": None, "served": False}
        rotated = {**ISSUED, "predecessor": "a", "expires": None}
        with Scripted(ok(revoked), ok(rotated, 201), ok(rotated, 201)) as server:
            issuer = Issuer(server.socket)
            told = issuer.revoke("a", reason="superseded", at=EXPIRES)
            self.assertEqual((told.already, told.generation, told.served), (True, None, False))
            issued = issuer.rotate("a", overlap="24h", request_id="r-2")
            self.assertEqual((issued.predecessor, issued.expires), ("a", None))
            issuer.rotate("a", overlap=timedelta(days=1))
        bodies = [json.loads(asked[3]) for asked in server.asked]
        self.assertEqual(bodies[0], {"reason": "superseded", "at": "2027-01-31T12:00:00Z"})
        self.assertEqual(bodies[1], {"overlap": "24h", "request_id": "r-2"})
        self.assertEqual(bodies[2], {"overlap": "86400s"})
        paths = [asked[1] for asked in server.asked]
        self.assertEqual(paths, ["/tokens/a/revoke", "/tokens/a/rotate", "/tokens/a/rotate"])

    def test_a_token_is_revoked_as_rfc_7009_says(self) -> None:
        with Scripted((200, b"", {})) as server:
            Issuer(server.socket).revoke_token(SOME_TOKEN + "&x")
        kind = "application/x-www-form-urlencoded"
        self.assertEqual(server.asked, [("POST", "/revoke", kind, f"token={SOME_TOKEN}%26x")])

    def test_history_has_events_and_proofs(self) -> None:
        events = [{"index": 4, "event": {"type": "issued"}, "proof": "p"}]
        with Scripted(ok({"id": "a", "checkpoint": "c", "events": events})) as server:
            history = Issuer(server.socket).history("a")
        self.assertEqual((history.checkpoint, history.events[0].index), ("c", 4))
        self.assertEqual(history.events[0].event, {"type": "issued"})

    def test_each_code_is_a_class(self) -> None:
        classes = {
            "invalid_request": (400, InvalidRequest),
            "forbidden": (403, Forbidden),
            "not_found": (404, NotFound),
            "repeated": (409, Repeated),
            "dead": (409, Dead),
            "busy": (503, Busy),
            "internal": (500, IssuerError),
            "a_code_of_later": (418, IssuerError),
        }
        for code, (status, of_code) in classes.items():
            told = problem(status, code, {"Retry-After": "7"}, id="a", event=3)
            with self.subTest(code), Scripted(told) as server:
                with self.assertRaises(of_code) as raised:
                    Issuer(server.socket).get("a")
                error = raised.exception
                self.assertIs(type(error), of_code)
                self.assertEqual((error.code, error.status), (code, status))
                self.assertEqual((error.id, error.event), ("a", 3))
                self.assertIn("why it is so", str(error))
                if isinstance(error, Busy):
                    self.assertEqual(error.retry_after, 7)

    def test_an_answer_of_something_else_is_an_error_without_what_it_held(self) -> None:
        for answer in ((502, b"<html>", {}), ok([]), ok({"token": SOME_TOKEN}), ok(b"{", 201)):
            with Scripted(answer) as server, self.assertRaises(IssuerError) as raised:
                Issuer(server.socket).issue("live")
            self.assertNotIn(SOME_TOKEN[-36:], repr(raised.exception))
            self.assertIsNone(raised.exception.__cause__)

    def test_nothing_is_asked_twice_and_a_lost_answer_is_said_to_be_lost(self) -> None:
        with Scripted(None, None) as server:
            with self.assertRaises(OutcomeUnknown) as raised:
                Issuer(server.socket).issue("live")
            self.assertEqual(raised.exception.code, "outcome_unknown")
            with self.assertRaises(Unreachable):
                Issuer(server.socket).get("a")
            self.assertEqual(len(server.asked), 2)

    def test_a_service_that_is_not_there_has_recorded_nothing(self) -> None:
        with self.assertRaises(Unreachable) as raised:
            Issuer("/nonexistent/issuer.sock").issue("live")
        self.assertIn("/nonexistent/issuer.sock", str(raised.exception))
        with mock.patch.dict(os.environ, {"ADAMANT_ISSUER_SOCKET": "/nonexistent/other.sock"}):
            with self.assertRaises(Unreachable) as raised:
                asyncio.run(AsyncIssuer().revoke("a"))
            self.assertIn("/nonexistent/other.sock", str(raised.exception))

    def test_a_time_without_a_zone_is_a_mistake(self) -> None:
        with self.assertRaises(ValueError):
            Issuer("/nonexistent/issuer.sock").issue("live", expires=datetime(2027, 1, 1))


class Live(unittest.TestCase):
    """A token's life, with the real service and the real daemon."""

    def setUp(self) -> None:
        need_programs("adamant", "adamant-issuer")
        self.home = Home()
        self.addCleanup(self.home.remove)
        self.daemon = Daemon(self.home)
        self.addCleanup(self.daemon.kill)
        self.service = Issuing(self.home, self.daemon)
        self.addCleanup(self.service.kill)
        self.issuer = Issuer(self.service.socket)
        self.client = Client(self.daemon.socket, timeout=TIMEOUT)
        self.addCleanup(self.client.close)

    def test_a_life(self) -> None:
        issued = self.issuer.issue(
            "live", subject="customer-42", scopes=["orders:read"], expires="90d"
        )
        token = issued.token.expose()
        self.assertTrue(self.client.verify(token, scopes=["orders:read"]))
        record = self.issuer.get(issued.id)
        self.assertEqual((record.state, record.subject), ("valid", "customer-42"))
        self.assertEqual(record.expires, issued.expires)
        rotated = asyncio.run(AsyncIssuer(self.service.socket).rotate(issued.id, overlap="1h"))
        self.assertEqual(rotated.predecessor, issued.id)
        self.assertTrue(self.client.verify(token))
        self.assertTrue(self.client.verify(rotated.token.expose()))
        self.assertFalse(self.issuer.revoke(issued.id).already)
        self.assertTrue(self.issuer.revoke(issued.id).already)
        self.assertEqual(self.client.verify(token).verdict, "revoked")
        self.issuer.revoke_token(rotated.token.expose())
        self.assertEqual(self.issuer.get(rotated.id).state, "revoked")
        history = self.issuer.history(issued.id)
        self.assertEqual(history.events[0].index, issued.event)

    def test_lists_have_pages(self) -> None:
        ids = {self.issuer.issue("live", subject="s").id for _ in range(5)}
        self.assertEqual({each.id for each in self.issuer.list(subject="s", page_size=2)}, ids)
        self.assertEqual(list(self.issuer.list(subject="nobody")), [])

    def test_what_goes_wrong_has_its_class(self) -> None:
        self.issuer.issue("live", request_id="r-1")
        with self.assertRaises(Repeated) as raised:
            self.issuer.issue("live", request_id="r-1")
        self.assertIsNotNone(raised.exception.id)
        with self.assertRaises(NotFound):
            self.issuer.get("00000000000000")
        with self.assertRaises(InvalidRequest):
            self.issuer.issue("no kind at all")
        dead = self.issuer.issue("live").id
        self.issuer.revoke(dead)
        with self.assertRaises(Dead):
            self.issuer.rotate(dead)


if __name__ == "__main__":
    unittest.main()
