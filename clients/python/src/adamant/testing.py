"""For the tests of a service: a client that knows the tokens that the test makes up.

    with FakeClient() as fake:
        fake.trust("any text", subject="customer-42", scopes=["orders:read"])
        ...

Inside of `with`, all middleware without a client of its own asks the fake. Elsewhere, `fake` takes
the place of a `Client` and `fake.aio` that of an `AsyncClient`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from . import _session
from ._answer import Answer, Generation
from ._errors import Unavailable
from ._gate import AsyncVerifier, Verifier, shared
from ._session import Token

__all__ = ["FakeAsyncClient", "FakeClient"]


class FakeClient:
    """A client that answers from memory. `available = False` makes it raise `Unavailable`."""

    def __init__(self) -> None:
        self.available = True
        self.aio = FakeAsyncClient(self)
        self._tokens: dict[bytes, Answer] = {}
        self._revoked: list[bytes] = []
        # Each change is another generation, as with the real one.
        self._generation = 1
        self._before: list[tuple[Verifier | None, AsyncVerifier | None]] = []

    def trust(
        self,
        token: Token,
        *,
        kind: str = "live",
        audience: str | None = None,
        scopes: Iterable[str] = (),
        subject: str | None = None,
        meta: str | None = None,
        expires: datetime | None = None,
    ) -> str:
        """From now on `token`, any text, is valid and has these claims. Gives its id."""
        # The same texts that no requirement may have, no claims may have either.
        _session.question(kind, audience, scopes, True)
        token_id = f"{len(self._tokens):014}"
        self._tokens[_session.text_of(token)] = Answer(
            "valid",
            token_id,
            int(expires.timestamp()) if expires else None,
            kind,
            audience,
            tuple(sorted(set(scopes))),
            subject,
            meta,
        )
        self._generation += 1
        return token_id

    def revoke(self, token: Token) -> None:
        """From now on `token` is revoked. It must have been trusted before."""
        text = _session.text_of(token)
        if text not in self._tokens:
            raise ValueError("the token was never trusted")
        self._revoked.append(text)
        self._generation += 1

    def verify(
        self,
        token: Token,
        *,
        kind: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        claims: bool = True,
    ) -> Answer:
        """As `Client.verify`."""
        return self.verify_many(
            [token], kind=kind, audience=audience, scopes=scopes, claims=claims
        )[0]

    def verify_many(
        self,
        tokens: Iterable[Token],
        *,
        kind: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        claims: bool = True,
    ) -> list[Answer]:
        """As `Client.verify_many`."""
        needed = _session.question(kind, audience, scopes, claims).scopes
        if not self.available:
            raise Unavailable("no_generation", "this fake is not available", "a fake")
        texts = [_session.text_of(token) for token in tokens]
        return [self._answer(text, kind, audience, needed, claims) for text in texts]

    def _answer(
        self,
        text: bytes,
        kind: str | None,
        audience: str | None,
        scopes: tuple[str, ...],
        claims: bool,
    ) -> Answer:
        known = self._tokens.get(text, Answer("unknown"))
        verdict = self._verdict(text, known, kind, audience, scopes)
        generation = Generation(1, self._generation, 0)
        if verdict == "valid" and claims:
            return known._replace(generation=generation, age=0)
        return Answer(verdict, known.token_id, known.expires_unix_s, generation=generation, age=0)

    def _verdict(
        self,
        text: bytes,
        known: Answer,
        kind: str | None,
        audience: str | None,
        scopes: tuple[str, ...],
    ) -> str:
        if not known:
            return known.verdict
        if text in self._revoked:
            return "revoked"
        if known.expires is not None and known.expires <= datetime.now(timezone.utc):
            return "expired"
        if kind is not None and kind != known.kind:
            return "wrong_kind"
        if audience is not None and audience != known.audience:
            return "wrong_audience"
        return "valid" if set(scopes) <= set(known.scopes) else "insufficient_scope"

    def __enter__(self) -> FakeClient:
        self._before.append((shared.blocking, shared.aio))
        shared.blocking, shared.aio = self, self.aio
        return self

    def __exit__(self, *_: object) -> None:
        shared.blocking, shared.aio = self._before.pop()


class FakeAsyncClient:
    """The same tokens, for what needs an `AsyncClient`."""

    def __init__(self, fake: FakeClient) -> None:
        self._fake = fake

    async def verify(self, token: Token, **asked: Any) -> Answer:
        """As `AsyncClient.verify`."""
        return self._fake.verify(token, **asked)

    async def verify_many(self, tokens: Iterable[Token], **asked: Any) -> list[Answer]:
        """As `AsyncClient.verify_many`."""
        return self._fake.verify_many(tokens, **asked)
