"""All recorded conversations, with both clients."""

import asyncio
import subprocess
import sys
import unittest
from functools import partial
from typing import Any
from unittest import mock

from support import CONVERSATIONS, TIMEOUT, Peer, conversations, expect, need, until_closed

from adamant import Answer, AsyncClient, Client, Unavailable, _digest

CLAIMS = ("kind", "audience", "subject", "meta")


def replayed(conversation: dict[str, Any]) -> Peer:
    def script(sock: Any) -> None:
        expect(sock, conversation["hello"]["request"])
        sock.sendall(bytes.fromhex(conversation["hello"]["reply"]))
        if conversation["request"] is not None:
            expect(sock, conversation["request"])
            sock.sendall(bytes.fromhex(conversation["reply"]))
        until_closed(sock)

    return Peer(script)


def asked(conversation: dict[str, Any]) -> dict[str, Any]:
    return {name: conversation["call"][name] for name in ("kind", "audience", "scopes", "claims")}


class Conversations(unittest.TestCase):
    def setUp(self) -> None:
        self.assertGreater(len(conversations()), 30, "the folder has its files")

    def each(self, ask: Any) -> None:
        for name, conversation in conversations():
            with self.subTest(name):
                by_digests = conversation["call"]["as"] == "digests"
                if by_digests:
                    need("blake3")
                hashing = _digest.keyed_hash if by_digests else None
                hashed = mock.patch.object(_digest, "keyed_hash", hashing)
                with hashed, replayed(conversation) as peer:
                    self.check(conversation, partial(ask, peer.socket, conversation))

    def check(self, conversation: dict[str, Any], ask: Any) -> None:
        error = conversation.get("error")
        if error is not None:
            with self.assertRaises(Unavailable) as raised:
                ask()
            self.assertIn(f"({error['name']})", str(raised.exception))
        elif "unavailable" in [answer["verdict"] for answer in conversation["answers"]]:
            with self.assertRaises(Unavailable) as raised:
                ask()
            self.assertEqual(raised.exception.reason, "no_generation")
        else:
            self.compare(conversation, ask())

    def compare(self, conversation: dict[str, Any], answers: list[Answer]) -> None:
        self.assertEqual(len(answers), len(conversation["answers"]))
        for answer, told in zip(answers, conversation["answers"]):
            self.assertEqual(answer.verdict, told["verdict"])
            self.assertEqual(answer.valid, told["verdict"] == "valid")
            self.assertIs(bool(answer), answer.valid)
            self.assertEqual(answer.token_id, told["id"])
            self.assertEqual(answer.expires_unix_s, told["expires"])
            self.compare_claims(answer, told)
            self.compare_evidence(conversation, answer)

    def compare_claims(self, answer: Answer, told: dict[str, Any]) -> None:
        shown = told if answer.valid else {}
        for name in CLAIMS:
            self.assertEqual(getattr(answer, name), shown.get(name) or None, name)
        self.assertEqual(answer.scopes, tuple(shown.get("scopes", ())))

    def compare_evidence(self, conversation: dict[str, Any], answer: Answer) -> None:
        evidence = conversation.get("evidence")
        if answer.generation is None:
            self.assertEqual(answer, Answer("malformed"))
            return
        named = ("epoch", "generation", "revocations")
        self.assertEqual(tuple(answer.generation), tuple(evidence[name] for name in named))
        self.assertEqual((answer.age, answer.stale), (evidence["age"], evidence["stale"]))

    def test_the_blocking_client_says_what_they_mean(self) -> None:
        def ask(socket: str, conversation: dict[str, Any]) -> list[Answer]:
            with Client(socket, timeout=TIMEOUT) as client:
                return client.verify_many(conversation["call"]["tokens"], **asked(conversation))

        self.each(ask)

    def test_so_does_its_call_for_one_token(self) -> None:
        def ask(socket: str, conversation: dict[str, Any]) -> list[Answer]:
            tokens = conversation["call"]["tokens"]
            with Client(socket, timeout=TIMEOUT) as client:
                if len(tokens) > 1:
                    return client.verify_many(tokens, **asked(conversation))
                return [client.verify(tokens[0], **asked(conversation))]

        self.each(ask)

    def test_the_asyncio_client_says_what_they_mean(self) -> None:
        async def run(socket: str, conversation: dict[str, Any]) -> list[Answer]:
            tokens = conversation["call"]["tokens"]
            async with AsyncClient(socket, timeout=TIMEOUT) as client:
                if len(tokens) > 1:
                    return await client.verify_many(tokens, **asked(conversation))
                return [await client.verify(tokens[0], **asked(conversation))]

        self.each(lambda *arguments: asyncio.run(run(*arguments)))


class Page(unittest.TestCase):
    def test_the_examples_of_the_page_are_those_in_the_folder(self) -> None:
        checked = subprocess.run(
            [sys.executable, str(CONVERSATIONS / "page.py"), "--check"], capture_output=True
        )
        self.assertEqual((checked.returncode, checked.stderr), (0, b""))

    def test_without_blake3_tokens_are_handed_to_the_daemon(self) -> None:
        with mock.patch.dict(sys.modules, {"blake3": None}):
            self.assertIsNone(_digest._keyed_hash())


if __name__ == "__main__":
    unittest.main()
