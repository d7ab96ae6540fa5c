"""From a presented text to what the daemon is asked about.

docs/protocol.md, "From a token to its digest". The token stays in this process when BLAKE3 is at
hand (the extra `blake3`); otherwise the daemon is handed the token.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Callable

from . import _wire

KeyedHash = Callable[[bytes, bytes], bytes]

_BODY_CHARS = 51
_CHECK_CHARS = 6
_KIND_BYTES_MAX = 8
_SCHEME = b"secret-token:"
_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [bytes((high, low)) for high in _DIGITS for low in _DIGITS]


def _keyed_hash() -> KeyedHash | None:
    try:
        from blake3 import blake3
    except ImportError:
        return None

    def keyed_hash(key: bytes, text: bytes) -> bytes:
        return bytes(blake3(text, key=key).digest())

    return keyed_hash


#: BLAKE3 with a key; `None` where the library is missing.
keyed_hash = _keyed_hash()


class ImportedLater(Exception):
    """An import could make the text a token: only a HELLO of now can say that it is none."""


class Domain:
    """How a deployment hashes its tokens, as a HELLO says."""

    __slots__ = ("_foreign", "_hash", "_key", "_longest", "_ours", "_shortest", "_well_formed")

    def __init__(self, hello: _wire.Hello, hash_with_key: KeyedHash) -> None:
        self._hash = hash_with_key
        self._key = hello.key
        self._foreign = bool(hello.foreign)
        prefix = hello.prefix.encode() + b"_"
        self._ours = prefix
        self._shortest = len(prefix) + 1 + 1 + _BODY_CHARS
        self._longest = self._shortest + _KIND_BYTES_MAX - 1
        self._well_formed = re.compile(re.escape(prefix) + rb"[a-z0-9]{1,8}_1[0-9A-Za-z]{50}")

    @staticmethod
    def of(hello: _wire.Hello) -> Domain | None:
        """`None`: ask about tokens. A client that lacks an algorithm would take imported tokens
        for unknown ones."""
        if keyed_hash is None or any(name != "sha256" for name in hello.foreign):
            return None
        return Domain(hello, keyed_hash)

    def digest(self, text: bytes) -> bytes | None:
        """What to ask about; `None` for a text that is no token."""
        if not text.startswith(self._ours) and text[: len(_SCHEME)].lower() == _SCHEME:
            text = text[len(_SCHEME) :]
        if self._well_formed.fullmatch(text):
            return self._hash(self._key, text) if _check_is_right(text) else None
        if text.startswith(self._ours) and self._shortest <= len(text) <= self._longest:
            return None
        if not 0 < len(text) <= _wire.TOKEN_BYTES_MAX:
            return None
        if not self._foreign:
            raise ImportedLater
        return self._hash(self._key, b"sha256\0" + hashlib.sha256(text).digest())


def _check_is_right(text: bytes) -> bool:
    check = zlib.crc32(text[:-_CHECK_CHARS])
    high, low = divmod(check, 62 * 62)
    highest, high = divmod(high, 62 * 62)
    return text[-_CHECK_CHARS:] == _PAIRS[highest] + _PAIRS[high] + _PAIRS[low]
