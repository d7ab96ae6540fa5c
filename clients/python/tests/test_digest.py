"""From a presented text to what the daemon is asked about, by the project's own vectors."""

import json
import unittest
from typing import Any

from support import ROOT, hello_reply, need

VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "token.json").read_text())


class Digests(unittest.TestCase):
    def setUp(self) -> None:
        need("blake3")

    def domain(self, prefix: str, foreign: int = 0) -> Any:
        from adamant._digest import Domain
        from adamant._wire import decode_hello

        domain = Domain.of(decode_hello(hello_reply(prefix.encode(), foreign=foreign)[4:]))
        assert domain is not None
        return domain

    def test_tokens_have_the_digests_of_the_vectors(self) -> None:
        for vector in VECTORS["well_formed"]:
            with self.subTest(vector["token"]):
                found = self.domain(vector["prefix"]).digest(vector["token"].encode())
                self.assertEqual(found.hex(), vector["digest_hex"])

    def test_ids_are_those_of_the_vectors(self) -> None:
        from adamant._wire import _token_id

        for vector in VECTORS["well_formed"]:
            number = bytes.fromhex(vector["id_bytes_big_endian_hex"])
            self.assertEqual(_token_id(number), vector["id"])

    def test_the_scheme_is_taken_off_in_any_case(self) -> None:
        domain = self.domain("acme")
        token, text = VECTORS["uri_form"]["token"], VECTORS["uri_form"]["text"]
        for form in (text, text.replace("secret-token", "SECRET-Token")):
            self.assertEqual(domain.digest(form.encode()), domain.digest(token.encode()))

    def test_what_is_no_token_is_not_asked_about(self) -> None:
        from adamant._digest import ImportedLater

        domain = self.domain("acme")
        for vector in VECTORS["malformed"]:
            with self.subTest(vector["why"]):
                try:
                    self.assertIsNone(domain.digest(vector["text"].encode()))
                except ImportedLater:
                    # Not of our form: an import could make it a token, and a HELLO of now decides.
                    text = vector["text"]
                    self.assertFalse(text.startswith("acme_") and 58 <= len(text) <= 65, text)

    def test_imported_tokens_have_the_digest_of_what_was_stored(self) -> None:
        vector = VECTORS["foreign"]
        domain = self.domain("acme", foreign=1)
        self.assertEqual(domain.digest(vector["of_text"].encode()).hex(), vector["digest_hex"])

    def test_no_import_makes_a_token_of_a_wrong_check(self) -> None:
        wrong = VECTORS["uri_form"]["token"][:-1] + "k"
        self.assertIsNone(self.domain("acme", foreign=1).digest(wrong.encode()))
        self.assertIsNone(self.domain("acme", foreign=1).digest(b""))
        self.assertIsNone(self.domain("acme", foreign=1).digest(b"x" * 4097))
        self.assertIsNotNone(self.domain("acme", foreign=1).digest(b"x" * 4096))

    def test_an_unknown_algorithm_means_to_ask_about_tokens(self) -> None:
        from adamant._digest import Domain
        from adamant._wire import decode_hello

        hello = decode_hello(hello_reply(foreign=1)[4:])
        self.assertIsNotNone(Domain.of(hello))
        self.assertIsNone(Domain.of(hello._replace(foreign=("sha256", "later"))))


if __name__ == "__main__":
    unittest.main()
