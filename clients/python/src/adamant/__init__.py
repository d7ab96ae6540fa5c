"""Asks Adamant whether an API token is valid.

    from adamant import Client

    client = Client()
    answer = client.verify("acme_live_1...", scopes=["orders:read"])
    if answer:
        print("welcome,", answer.subject)

`AsyncClient` is the same for asyncio. Middleware: `adamant.asgi`, `adamant.wsgi`,
`adamant.fastapi`, `adamant.django`. The issuing service: `adamant.issuer`. For the tests of a
service: `adamant.testing`.
"""

from ._aio import AsyncClient
from ._answer import Answer, Generation
from ._client import Client
from ._errors import Unavailable

__all__ = ["Answer", "AsyncClient", "Client", "Generation", "Unavailable"]
__version__ = "0.1.0"
