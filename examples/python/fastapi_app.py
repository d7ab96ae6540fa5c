"""An API that makes keys for its customers, checks them, and takes them back.

    pip install fastapi uvicorn 'adamant-client[blake3]'
    ADMIN_PASSWORD=... uvicorn fastapi_app:app

    curl -u admin:$ADMIN_PASSWORD -X POST 'http://127.0.0.1:8000/keys?customer=customer-42'
    curl -H 'Authorization: Bearer acme_live_1...' http://127.0.0.1:8000/orders
    curl -u admin:$ADMIN_PASSWORD -X DELETE http://127.0.0.1:8000/keys/3vK9Qz0aTnB7xW

`ADAMANT_SOCKET` and `ADAMANT_ISSUER_SOCKET` name the sockets of the daemon and of the issuing
service, unless they are where packages put them.
"""

import os
import secrets
from typing import Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from adamant import Answer
from adamant.fastapi import require
from adamant.issuer import AsyncIssuer, IssuerError

# Who may make keys is the app's matter, and Adamant does not know it. This example has one
# administrator with one password, and does not start without it; a real app puts its own login
# here.
ADMIN_PASSWORD = os.environ["ADMIN_PASSWORD"].encode()

app = FastAPI()
issuer = AsyncIssuer()


def admin(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> str:
    """Only the administrator gets on."""
    given = (credentials.username.encode(), credentials.password.encode())
    # Both are always compared, and in constant time.
    is_name = secrets.compare_digest(given[0], b"admin")
    is_password = secrets.compare_digest(given[1], ADMIN_PASSWORD)
    if not (is_name and is_password):
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
    return credentials.username


@app.post("/keys", status_code=201)
async def create_key(customer: str, caller: str = Depends(admin)) -> dict[str, Any]:
    """A new key. It is shown this once, and stored nowhere."""
    try:
        issued = await issuer.issue(
            "live",
            subject=customer,
            scopes=["orders:read"],
            expires="90d",
            on_behalf_of=caller,
        )
    except IssuerError as error:
        raise answer_to(error) from error
    return {"id": issued.id, "key": issued.token.expose(), "expires": issued.expires}


@app.get("/orders")
async def orders(key: Answer = Depends(require(scope="orders:read"))) -> dict[str, Any]:
    """Needs a key. What the key may do and whose it is came with the answer."""
    return {"customer": key.subject, "orders": []}


@app.delete("/keys/{key_id}", status_code=204)
async def revoke_key(key_id: str, caller: str = Depends(admin)) -> None:
    """From now on the key opens nothing."""
    try:
        await issuer.revoke(key_id, reason="owner-request", on_behalf_of=caller)
    except IssuerError as error:
        raise answer_to(error) from error


def answer_to(error: IssuerError) -> HTTPException:
    """What the caller is told when the issuing service did not do it."""
    status = {"invalid_request": 422, "not_found": 404}.get(error.code, 503)
    return HTTPException(status, detail=error.code)
