// What Express and Fastify have in common: from the headers of a request to an answer or a refusal.
//
// | case | status | `WWW-Authenticate` |
// |---|---|---|
// | no token | 401 | `Bearer` |
// | more than one, or not a bearer token | 400 | `Bearer error="invalid_request"` |
// | not valid | 401 | `Bearer error="invalid_token"` |
// | of another kind or audience, or without a scope | 403 | `Bearer error="insufficient_scope"` |
// | the daemon could not be asked | 503, with `Retry-After` | |
//
// The token stands in `Authorization: Bearer` (RFC 6750, 2.1), once, and nowhere else: what is in a
// query string ends up in logs.

import { Client } from "./client.js";
import { Unavailable } from "./errors.js";
import { Requirement } from "./requirement.js";

const RETRY_AFTER_S = "1";
const LACKS = ["wrong_kind", "wrong_audience", "insufficient_scope"];

let shared;

export class Gate {
  #client;
  #report;
  #requirement;
  #lacksScope;

  /** `report` is told why the daemon could not be asked, with the request, unless an option is. */
  constructor({ client, onUnavailable, ...need }, report) {
    if (client === undefined) shared ??= new Client();
    this.#client = client ?? shared;
    this.#report = onUnavailable ?? report;
    this.#requirement = new Requirement(need);
    this.#lacksScope = `Bearer error="insufficient_scope"${scopeOf(this.#requirement)}`;
  }

  /** Either `answer` or `refusal: { status, headers }`. */
  async judge(rawHeaders, request) {
    const { token, refusal } = bearer(rawHeaders);
    if (refusal !== undefined) return { refusal };
    try {
      const answer = await this.#client.verify(token, this.#requirement);
      return answer.valid ? { answer } : { refusal: this.#denied(answer) };
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      // The operator learns why, and the caller does not.
      this.#report(error, request);
      return { refusal: { status: 503, headers: { "Retry-After": RETRY_AFTER_S } } };
    }
  }

  #denied(answer) {
    if (LACKS.includes(answer.verdict)) return challenge(403, this.#lacksScope);
    return challenge(401, 'Bearer error="invalid_token"');
  }
}

function challenge(status, text) {
  return { status, headers: { "WWW-Authenticate": text } };
}

function scopeOf({ scopes }) {
  // The characters of a scope (RFC 6749, 3.3): others could end the header's text.
  if (!scopes.every((scope) => /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope))) {
    throw new TypeError(
      "a scope has visible ASCII characters alone, without quotes and backslashes",
    );
  }
  return scopes.length === 0 ? "" : `, scope="${scopes.join(" ")}"`;
}

/**
 * The token among `rawHeaders`, names and values by turns. Node's `headers` would show the first
 * Authorization alone, and what stands in front of this service may have looked at another one.
 */
function bearer(rawHeaders) {
  const values = [];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index];
    if (name.length === 13 && name.toLowerCase() === "authorization")
      values.push(rawHeaders[index + 1]);
  }
  if (values.length === 0) return { refusal: challenge(401, "Bearer") };
  const [value] = values;
  const isBearer = /^bearer [^]/i.test(value) && values.length === 1;
  if (!isBearer) return { refusal: challenge(400, 'Bearer error="invalid_request"') };
  return { token: bytesOf(value.slice("Bearer ".length)) };
}

/** Node reads headers as Latin-1: a character is a byte. */
function bytesOf(text) {
  return /^[\x00-\x7f]*$/.test(text) ? text : Buffer.from(text, "latin1");
}
