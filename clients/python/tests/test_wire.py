"""Replies are read as the page says, or refused."""

import struct
import unittest
from typing import Callable

from support import conversations, hello_reply, verdicts_reply

from adamant import _wire
from adamant._errors import Refused, Unreadable


def recorded(name: str) -> bytes:
    return bytes.fromhex(dict(conversations())[name]["reply"])[4:]


#: A body of each reply, and what reads it.
BODIES: list[tuple[bytes, Callable[[bytes], object]]] = [
    (hello_reply(foreign=1)[4:], _wire.decode_hello),
    (recorded("valid.tokens"), _wire.decode_verdict),
    (recorded("claims.tokens"), _wire.decode_verdict),
    (recorded("unknown.tokens"), _wire.decode_verdict),
    (recorded("batch-claims.tokens"), lambda body: _wire.decode_verdicts(body, 3)),
    (struct.pack("<IQ", 2, 2) + b"{}", _wire.decode_status),
]


class Replies(unittest.TestCase):
    def test_every_shorter_and_longer_body_is_refused(self) -> None:
        for body, decode in BODIES:
            decode(body)
            for length in range(4, len(body)):
                with self.assertRaises(Unreadable, msg=f"{body.hex()} cut to {length}"):
                    decode(body[:length])
            with self.assertRaises(Unreadable):
                decode(body + b"\0")

    def test_a_reply_to_something_else_is_refused(self) -> None:
        for number, (body, decode) in enumerate(BODIES):
            other = BODIES[(number + 1) % len(BODIES)][0]
            if other[:4] != body[:4]:
                with self.assertRaises(Unreadable):
                    decode(other)

    def test_an_error_is_raised_whatever_was_asked(self) -> None:
        body = struct.pack("<IIQ", 3, 6, 4) + b"busy"
        for _, decode in BODIES:
            with self.assertRaises(Refused):
                decode(body)
        for wrong in (body + b"\0", body[:-1], struct.pack("<IIQ", 3, 9, 0)):
            with self.assertRaises(Unreadable):
                _wire.decode_verdict(wrong)

    def test_wrong_rows_are_refused(self) -> None:
        good = recorded("valid.tokens")
        at = {"flags": 4, "count": 40, "verdict": 48, "id": 52, "table": 63, "expires": 64}

        def refused(name: str, byte: int, body: bytes = good) -> None:
            changed = bytearray(body)
            changed[at[name]] = byte
            with self.assertRaises(Unreadable, msg=f"{name} {byte}"):
                _wire.decode_verdict(bytes(changed))

        refused("flags", 2)
        refused("count", 2)
        refused("count", 0)
        refused("verdict", 11)
        refused("verdict", _wire.VERDICTS.index("unknown"))
        refused("id", 255)
        refused("table", 255)
        unknown = recorded("unknown.tokens")
        refused("verdict", _wire.VERDICTS.index("valid"), unknown)
        refused("id", 1, unknown)
        refused("expires", 1, unknown)

    def test_claims_of_a_token_without_a_record_are_refused(self) -> None:
        unknown, claims = recorded("unknown.tokens"), recorded("claims.tokens")
        with self.assertRaises(Unreadable):
            _wire.decode_verdict(unknown[:72] + claims[72:])

    def test_wrong_hellos_are_refused(self) -> None:
        good = hello_reply()[4:]
        for changed in (
            good[:4] + b"\2" + good[5:],
            good[:-16] + struct.pack("<I", 65535) + good[-12:],
            good[:-4] + bytes(4),
            good[:8] + hello_reply(prefix=b"")[12:],
        ):
            with self.assertRaises(Unreadable):
                _wire.decode_hello(changed)

    def test_a_length_that_no_reply_has_is_refused_at_once(self) -> None:
        for length in (0, (1 << 20) + 1, 0xFFFFFFFF):
            with self.assertRaises(Unreadable):
                _wire.body_bytes(struct.pack("<I", length))
        self.assertEqual(_wire.body_bytes(struct.pack("<I", 1 << 20)), 1 << 20)

    def test_rows_must_be_as_many_as_tokens(self) -> None:
        with self.assertRaises(Unreadable):
            _wire.decode_verdicts(verdicts_reply(2, 2)[4:], 3)


class Questions(unittest.TestCase):
    def test_what_no_daemon_takes_is_a_mistake_of_the_caller(self) -> None:
        for kind, audience, scopes in (
            ("k" * 9, None, ()),
            (None, "a" * 256, ()),
            (None, None, ("s" * 129,)),
            (None, None, ("two words",)),
            (None, None, ('quo"te',)),
            (None, None, ("",)),
            (None, None, tuple(f"s{number}" for number in range(65))),
        ):
            with self.assertRaises(ValueError):
                _wire.question(kind, audience, scopes, False)

    def test_the_longest_requirement_leaves_room_for_the_longest_token(self) -> None:
        scopes = tuple(f"{number:0128}" for number in range(64))
        asked = _wire.question("k" * 8, "a" * 255, scopes, True)
        frame = asked.about_tokens([b"x" * _wire.TOKEN_BYTES_MAX])
        self.assertLessEqual(len(frame) - 4, _wire.FRAME_BYTES_MIN)
        self.assertGreaterEqual(asked.token_bytes(), 8 + _wire.TOKEN_BYTES_MAX)


if __name__ == "__main__":
    unittest.main()
