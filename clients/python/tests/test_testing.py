"""The fake answers as a real daemon does."""

import asyncio
import unittest
from datetime import datetime, timedelta, timezone
from typing import Any

from support import SOME_TOKEN, TIMEOUT, Served

from adamant import Answer, Client, Unavailable
from adamant.testing import FakeClient

CLAIMS: dict[str, Any] = {
    "kind": "live",
    "subject": "customer-42",
    "audience": "api",
    "scopes": ["orders:write", "orders:read"],
    "meta": "a label",
}
QUESTIONS: list[dict[str, Any]] = [
    {},
    {"claims": False},
    {"kind": "live", "audience": "api", "scopes": ["orders:read"]},
    {"kind": "test", "audience": "other", "scopes": ["orders:delete"]},
    {"audience": "other", "scopes": ["orders:delete"]},
    {"scopes": ["orders:read", "orders:delete"]},
]


def without_evidence(answer: Answer) -> Answer:
    """Ids and generations are each daemon's own."""
    token_id = None if answer.token_id is None else "an id"
    return answer._replace(token_id=token_id, generation=None, age=None)


class Fakes(Served):
    def test_the_same_questions_have_the_same_answers(self) -> None:
        fake = FakeClient()
        real = Client(self.daemon.socket, timeout=TIMEOUT)
        self.addCleanup(real.close)
        full, bare, revoked = (self.issue(**each) for each in (CLAIMS, {}, CLAIMS))
        self.daemon.wait_for(self.home.revoke(revoked["id"]))
        fake.trust(full["token"], **CLAIMS)
        fake.trust(bare["token"])
        fake.trust(revoked["token"], **CLAIMS)
        fake.revoke(revoked["token"])
        for token in (full["token"], bare["token"], revoked["token"], SOME_TOKEN):
            for asked in QUESTIONS:
                with self.subTest(asked):
                    found = fake.verify(token, **asked)
                    expected = real.verify(token, **asked)
                    self.assertEqual(without_evidence(found), without_evidence(expected))


class Alone(unittest.TestCase):
    def test_each_change_is_a_later_generation(self) -> None:
        fake = FakeClient()
        fake.trust("a")
        before = fake.verify("a").generation
        fake.revoke("a")
        self.assertGreater(fake.verify("a").generation, before)

    def test_a_token_expires(self) -> None:
        fake = FakeClient()
        now = datetime.now(timezone.utc)
        fake.trust("later", expires=now + timedelta(hours=1))
        fake.trust("before", expires=now - timedelta(hours=1))
        verdicts = [answer.verdict for answer in fake.verify_many(["later", "before"])]
        self.assertEqual(verdicts, ["valid", "expired"])

    def test_a_fake_that_is_not_available_raises(self) -> None:
        fake = FakeClient()
        fake.trust("a")
        fake.available = False
        for ask in (lambda: fake.verify("a"), lambda: asyncio.run(fake.aio.verify("a"))):
            with self.assertRaises(Unavailable):
                ask()

    def test_mistakes_are_told_as_by_the_real_client(self) -> None:
        fake = FakeClient()
        with self.assertRaises(TypeError):
            fake.verify("a", scopes="orders:read")
        with self.assertRaises(ValueError):
            fake.trust("a", scopes=["two words"])
        with self.assertRaises(ValueError):
            fake.revoke("never trusted")


if __name__ == "__main__":
    unittest.main()
