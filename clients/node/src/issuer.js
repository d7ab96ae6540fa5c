// Issues, revokes and rotates tokens, by the issuing service at its Unix socket.

import http from "node:http";
import { inspect } from "node:util";

import { checkKeys, checkTimeout } from "./check.js";
import { ISSUER, Unavailable, unreachable } from "./errors.js";

const DEFAULT_SOCKET = "/run/adamant-issuer/issuer.sock";
/** An issue is durable and waits until the daemon serves it: milliseconds, or a busy disk. */
const DEFAULT_TIMEOUT_MS = 10_000;
/** Above the longest page of tokens, a thousand of some ten kilobytes. */
const RESPONSE_BYTES_MAX = 32 << 20;

/** What any request that changes something may carry. */
const ORIGIN = ["requestId", "onBehalfOf", "ticket"];
const ISSUE = ["kind", "subject", "audience", "scopes", "meta", "notBefore", "expires", ...ORIGIN];
const REVOKE = ["reason", "at", ...ORIGIN];
const ROTATE = ["overlap", "expires", ...ORIGIN];

/** The service answered that it will not. `code` is for programs; `problem` is all that it said. */
export class IssuerError extends Error {
  constructor(status, problem, retryAfterS) {
    super(`${problem.title ?? "refused"} (${problem.code}): ${problem.detail ?? "no detail"}`);
    this.code = problem.code;
    this.status = status;
    this.problem = problem;
    this.retryAfterS = retryAfterS;
  }

  get name() {
    return "IssuerError";
  }
}

/** A token that was just issued. The token itself is shown by nothing but `token`. */
class Issued {
  #token;

  constructor(reply) {
    this.#token = reply.token;
    this.id = reply.id;
    this.predecessor = reply.predecessor ?? null;
    this.event = reply.event;
    this.generation = reply.generation;
    this.served = reply.served;
    this.expires = time(reply.expires);
  }

  /** Hand it to its owner and to nobody else: it is told once. */
  get token() {
    return this.#token;
  }

  [inspect.custom](depth, options) {
    return `Issued ${inspect({ ...this, token: "(not shown)" }, options)}`;
  }
}

export class Issuer {
  #socket;
  #timeoutMs;
  #agent = new http.Agent({ keepAlive: true });

  constructor(options = {}) {
    const { socket, timeoutMs } = checkKeys("options", options, ["socket", "timeoutMs"]);
    this.#socket = socket ?? (process.env.ADAMANT_ISSUER_SOCKET || DEFAULT_SOCKET);
    this.#timeoutMs = checkTimeout(timeoutMs ?? DEFAULT_TIMEOUT_MS);
  }

  async issue(wanted) {
    return new Issued(await this.#post("/tokens", bodyOf("token", wanted, ISSUE)));
  }

  async get(id) {
    return recordOf(await this.#request("GET", tokenPath(id)));
  }

  async *list(filter = {}) {
    const { subject, pageSize } = checkKeys("filter", filter, ["subject", "pageSize"]);
    const query = new URLSearchParams();
    if (subject !== undefined) query.set("subject", subject);
    if (pageSize !== undefined) query.set("limit", pageSize);
    for (;;) {
      const page = await this.#request("GET", `/tokens?${query}`);
      for (const token of page.tokens) yield recordOf(token);
      if (page.next === null) return;
      query.set("after", page.next);
    }
  }

  async revoke(id, how = {}) {
    return this.#post(`${tokenPath(id)}/revoke`, bodyOf("revocation", how, REVOKE));
  }

  async rotate(id, how = {}) {
    return new Issued(await this.#post(`${tokenPath(id)}/rotate`, bodyOf("rotation", how, ROTATE)));
  }

  async history(id) {
    return this.#request("GET", `${tokenPath(id)}/history`);
  }

  close() {
    this.#agent.destroy();
  }

  [inspect.custom](depth, options) {
    return `Issuer ${inspect({ socket: this.#socket, timeoutMs: this.#timeoutMs }, options)}`;
  }

  #post(path, body) {
    return this.#request("POST", path, JSON.stringify(body));
  }

  async #request(method, path, body) {
    const { status, headers, text } = await this.#exchange(method, path, body);
    const reply = parse(text);
    const isRead = typeof reply === "object" && reply !== null;
    if (isRead && status >= 200 && status < 300) return reply;
    if (isRead && typeof reply.code === "string") {
      throw new IssuerError(status, reply, retryAfterOf(headers));
    }
    throw new Unavailable(
      "protocol",
      `what came from ${this.#socket} is no reply of ${ISSUER.name} (status ${status}): see what listens there`,
    );
  }

  #exchange(method, path, body) {
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(this.#timeoutMs);
      const fail = (err) => reject(this.#failure(method, err, signal.aborted));
      const target = { socketPath: this.#socket, agent: this.#agent, method, path };
      const request = http.request({ ...target, headers: headersOf(body), signal });
      request.on("error", fail);
      request.on("response", (response) => {
        const { statusCode: status, headers } = response;
        collect(response).then((text) => resolve({ status, headers, text }), fail);
      });
      request.end(body);
    });
  }

  #failure(method, cause, isTimeout) {
    // What Node keeps of a response that it cannot read may hold a token.
    delete cause.rawPacket;
    if (cause.syscall === "connect") return unreachable(ISSUER, this.#socket, cause);
    const what = isTimeout
      ? `no answer from ${this.#socket} within ${this.#timeoutMs} ms`
      : `the connection to ${this.#socket} broke`;
    const advice =
      method === "GET"
        ? `see the log of ${ISSUER.name}`
        : "whether it was recorded is not known: ask again with the same requestId";
    return new Unavailable(isTimeout ? "timeout" : "closed", `${what}: ${advice}`, { cause });
  }
}

function tokenPath(id) {
  if (typeof id !== "string" || id === "") throw new TypeError("an id is a text, and not empty");
  return `/tokens/${encodeURIComponent(id)}`;
}

/** The members of the service are named like_this, and ours likeThis. */
function bodyOf(what, given, keys) {
  const entries = Object.entries(checkKeys(what, given, keys));
  return Object.fromEntries(entries.map(([key, value]) => [snakeCase(key), wireValue(value)]));
}

function snakeCase(key) {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Times have whole seconds. What is cut off makes a token's life shorter, if anything. */
function wireValue(value) {
  return value instanceof Date ? `${value.toISOString().slice(0, 19)}Z` : value;
}

function time(text) {
  return typeof text === "string" ? new Date(text) : null;
}

function recordOf(reply) {
  return {
    id: reply.id,
    state: reply.state,
    kind: reply.kind,
    audience: reply.audience || null,
    scopes: reply.scopes,
    subject: reply.subject,
    meta: reply.meta,
    issued: time(reply.issued),
    notBefore: time(reply.not_before),
    expires: time(reply.expires),
    revokedAt: time(reply.revoked_at),
    reason: reply.reason,
    predecessor: reply.predecessor ?? null,
    successor: reply.successor ?? null,
    event: reply.event,
  };
}

function headersOf(body) {
  if (body === undefined) return {};
  return { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
}

async function collect(response) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of response) {
    bytes += chunk.length;
    if (bytes > RESPONSE_BYTES_MAX) throw new Error("the response is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** No error of JSON.parse leaves here: it would quote the text, which may hold a token. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function retryAfterOf(headers) {
  const seconds = Number(headers["retry-after"]);
  return headers["retry-after"] !== undefined && seconds >= 0 ? seconds : null;
}
