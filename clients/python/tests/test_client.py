"""Both clients against a real daemon."""

import asyncio
import os
import threading
import unittest
import warnings
from collections.abc import Awaitable
from datetime import datetime, timezone
from typing import Any, Callable
from unittest import mock

from support import SOME_TOKEN, TIMEOUT, Daemon, Home, Served, need, need_programs

from adamant import Answer, AsyncClient, Client, Unavailable, _digest

NEED: dict[str, Any] = {"kind": "live", "audience": "api", "scopes": ["orders:read"]}
CLAIMS: dict[str, Any] = {
    "subject": "customer-42",
    "audience": "api",
    "scopes": ["orders:read", "orders:write"],
    "expires": "2099-01-31T12:00:00Z",
}


def run_async(socket: str, ask: Callable[[AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(socket, timeout=TIMEOUT, **options) as client:
            return await ask(client)

    return asyncio.run(run())


class Asks(Served):
    def client(self) -> Client:
        client = Client(self.daemon.socket, timeout=TIMEOUT)
        self.addCleanup(client.close)
        return client

    def test_an_answer_says_all_that_is_known(self) -> None:
        issued = self.issue(**CLAIMS)
        blocking = self.client().verify(issued["token"], **NEED)
        aio = run_async(self.daemon.socket, lambda each: each.verify(issued["token"], **NEED))
        for answer in (blocking, aio):
            self.assertTrue(answer.valid)
            self.assertEqual(answer.verdict, "valid")
            self.assertEqual(answer.token_id, issued["id"])
            self.assertEqual(answer.subject, "customer-42")
            self.assertEqual(answer.audience, "api")
            self.assertEqual(answer.scopes, ("orders:read", "orders:write"))
            self.assertEqual(answer.expires, datetime(2099, 1, 31, 12, tzinfo=timezone.utc))
            self.assertEqual(answer.generation.epoch, 1)
            self.assertGreaterEqual(answer.generation.number, issued["generation"])
            self.assertLess(answer.age, 60)
            self.assertNotIn(issued["token"], repr(answer))
            self.assertNotIn(issued["token"][-36:], repr(answer))

    def test_a_denied_token_is_false_and_has_no_claims(self) -> None:
        issued = self.issue(**CLAIMS)
        answer = self.client().verify(issued["token"], scopes=["orders:delete"])
        self.assertFalse(answer)
        self.assertEqual(answer.verdict, "insufficient_scope")
        self.assertEqual(answer.token_id, issued["id"])
        self.assertEqual((answer.subject, answer.scopes), (None, ()))

    def test_a_revoked_token_is_dead_at_the_next_question(self) -> None:
        issued = self.issue(**CLAIMS)
        client = self.client()
        before = client.verify(issued["token"])
        self.daemon.wait_for(self.home.revoke(issued["id"]))
        after = client.verify(issued["token"])
        self.assertEqual((before.verdict, after.verdict), ("valid", "revoked"))
        self.assertGreater(after.generation, before.generation)

    def test_text_and_bytes_are_the_same_token(self) -> None:
        token = self.issue()["token"]
        client = self.client()
        self.assertTrue(client.verify(token) and client.verify(token.encode()))
        self.assertFalse(client.verify("\ud800"))

    def test_many_answers_come_in_the_order_of_the_tokens(self) -> None:
        """More than one frame holds, with texts among them about which nobody is asked."""
        issued = self.issue(**CLAIMS)
        tokens = [issued["token"], SOME_TOKEN, "no token", issued["token"] + "x"] * 700
        expected = ["valid", "unknown", "malformed", "malformed"] * 700
        for hashing in self.ways_of_asking():
            for claims in (True, False):
                with self.subTest(hashing=hashing is not None, claims=claims):
                    with mock.patch.object(_digest, "keyed_hash", hashing):
                        blocking = self.client().verify_many(tokens, claims=claims)
                        aio = run_async(
                            self.daemon.socket,
                            lambda each, claims=claims: each.verify_many(tokens, claims=claims),
                        )
                    for answers in (blocking, aio):
                        self.assertEqual([answer.verdict for answer in answers], expected)
                        subject = "customer-42" if claims else None
                        self.assertEqual(answers[-4].subject, subject)

    def ways_of_asking(self) -> list[Any]:
        need("blake3")
        return [_digest.keyed_hash, None]

    def test_no_token_is_asked_about_in_no_frame(self) -> None:
        self.assertEqual(self.client().verify_many([]), [])
        self.assertEqual(run_async(self.daemon.socket, lambda each: each.verify_many([])), [])

    def test_the_longest_texts_fit_frames(self) -> None:
        """Sixteen of them are more than a frame holds; one that is too long is not sent."""
        with mock.patch.object(_digest, "keyed_hash", None):
            client = self.client()
            answers = client.verify_many(["x" * 4096] * 40 + ["x" * 4097])
            self.assertEqual({answer.verdict for answer in answers}, {"malformed"})
            self.assertIsNotNone(answers[0].generation)
            self.assertIsNone(answers[-1].generation)

    def test_threads_share_a_client(self) -> None:
        issued = self.issue(**CLAIMS)
        client = self.client()
        expected = {issued["token"]: "valid", SOME_TOKEN: "unknown", "no token": "malformed"}
        wrong: list[Any] = []

        def ask() -> None:
            for token, verdict in list(expected.items()) * 100:
                found = client.verify(token).verdict
                if found != verdict:
                    wrong.append((verdict, found))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertLessEqual(len(client._idle), 8)

    def test_tasks_share_one_connection_and_get_their_own_answers(self) -> None:
        issued = self.issue(**CLAIMS)
        before = self.daemon.status()["connections"]

        async def ask(client: AsyncClient) -> list[Answer]:
            tokens = [issued["token"], SOME_TOKEN] * 300
            return await asyncio.gather(*(client.verify(token) for token in tokens))

        answers = run_async(self.daemon.socket, ask)
        self.assertEqual([answer.verdict for answer in answers], ["valid", "unknown"] * 300)
        # One of the tests' own for the status.
        self.assertEqual(self.daemon.status()["connections"] - before, 2)

    def test_cancelled_tasks_shift_no_answer(self) -> None:
        issued = self.issue(**CLAIMS)

        async def ask(client: AsyncClient) -> list[str]:
            await client.verify(SOME_TOKEN)
            dropped = [asyncio.ensure_future(client.verify(issued["token"])) for _ in range(50)]
            kept = [asyncio.ensure_future(client.verify(SOME_TOKEN)) for _ in range(50)]
            await asyncio.sleep(0)
            for task in dropped:
                task.cancel()
            return [answer.verdict for answer in await asyncio.gather(*kept)]

        before = self.daemon.status()["connections"]
        self.assertEqual(run_async(self.daemon.socket, ask), ["unknown"] * 50)
        self.assertEqual(self.daemon.status()["connections"] - before, 2, "not asked anew")

    def test_an_async_client_works_in_one_loop_after_the_other(self) -> None:
        token = self.issue()["token"]
        client = AsyncClient(self.daemon.socket, timeout=TIMEOUT)
        # What a loop leaves open at its end is what this is about.
        warnings.simplefilter("ignore", ResourceWarning)

        async def ask() -> Answer:
            return await client.verify(token)

        before = len(os.listdir("/proc/self/fd"))
        self.assertTrue(all(asyncio.run(ask()) for _ in range(20)))
        self.assertLessEqual(len(os.listdir("/proc/self/fd")) - before, 1)

    def test_a_child_process_does_not_share_connections(self) -> None:
        """Parent and child ask different things at the same time, many times."""
        token = self.issue()["token"]
        client = self.client()
        self.assertTrue(client.verify(token))

        def wrong(mine: str, verdict: str) -> int:
            return sum(client.verify(mine).verdict != verdict for _ in range(500))

        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = min(wrong(SOME_TOKEN, "unknown"), 1)
            finally:
                os._exit(code)
        self.assertEqual((wrong(token, "valid"), os.waitpid(child, 0)[1]), (0, 0))

    def test_status_is_the_daemons(self) -> None:
        self.assertEqual(self.client().status()["state"], "ok")
        status = run_async(self.daemon.socket, lambda client: client.status())
        self.assertEqual(status["prefix"], "acme")

    def test_the_environment_names_the_socket(self) -> None:
        token = self.issue()["token"]
        named = mock.patch.dict(os.environ, {"ADAMANT_SOCKET": self.daemon.socket})
        with named, Client(timeout=TIMEOUT) as client:
            self.assertTrue(client.verify(token))
        with mock.patch.dict(os.environ, {"ADAMANT_SOCKET": ""}):
            self.assertIn("'/run/adamant/adamant.sock'", repr(Client()))
            self.assertIn("timeout=0.05", repr(AsyncClient()))

    def test_one_text_in_the_place_of_scopes_is_a_mistake(self) -> None:
        with self.assertRaises(TypeError):
            self.client().verify(SOME_TOKEN, scopes="orders:read")


class Rules(unittest.TestCase):
    def test_claims_that_are_kept_from_a_caller_are_unavailable(self) -> None:
        need_programs("adamant", "adamantd")
        home = Home()
        self.addCleanup(home.remove)
        token = home.issue()["token"]
        rule = '[[caller]]\noperations = ["verify", "verify-tokens"]\n'
        daemon = Daemon(home, settings=rule)
        self.addCleanup(daemon.kill)
        with Client(daemon.socket, timeout=TIMEOUT) as client:
            with self.assertRaises(Unavailable) as raised:
                client.verify(token)
            self.assertEqual(raised.exception.reason, "permission")
            self.assertIn("may not be told claims", str(raised.exception))
            self.assertTrue(client.verify(token, claims=False))


if __name__ == "__main__":
    unittest.main()
