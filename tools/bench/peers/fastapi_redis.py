"""What many services do today: FastAPI under uvicorn asks Redis for the SHA-256 of a token.

uvicorn --app-dir tools/bench/peers fastapi_redis:app, with REDIS_SOCKET in the environment.
"""

import hashlib
import os

import redis.asyncio
from fastapi import FastAPI, Header, HTTPException

app = FastAPI()
keys = redis.asyncio.Redis(unix_socket_path=os.environ["REDIS_SOCKET"])


@app.get("/auth")
async def auth(authorization: str = Header()):
    token = authorization.removeprefix("Bearer ")
    if await keys.get(hashlib.sha256(token.encode()).digest()) is None:
        raise HTTPException(401)
    return {}
