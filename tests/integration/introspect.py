"""A stock OAuth library asks /introspect: introspect.py HTTP_SOCKET, a token on standard input.

Prints the answer's JSON. The resource protector of the same library judges the answer, too.
"""

import json
import sys

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc7662 import IntrospectTokenValidator

socket, token = sys.argv[1], sys.stdin.read().strip()
client = OAuth2Client(
    "orders", "unused", transport=httpx.HTTPTransport(uds=socket), token_endpoint_auth_method="none"
)
response = client.introspect_token("http://localhost/introspect", token=token)
response.raise_for_status()
answer = response.json()


class Validator(IntrospectTokenValidator):
    def introspect_token(self, token_string):
        return answer


try:
    validator = Validator()
    validator.validate_token(validator.authenticate_token(token), ["orders:read"], request=None)
    accepted = True
except Exception as refused:  # one of the library's own errors, which differ from version to version
    accepted = type(refused).__name__
print(json.dumps({"answer": answer, "accepted": accepted}))
