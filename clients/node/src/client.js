// Asks a daemon whether tokens are valid.

import { inspect } from "node:util";

import { checkKeys, checkTimeout } from "./check.js";
import { Requirement } from "./requirement.js";
import { Session } from "./session.js";

/** Where a packaged daemon listens. */
const DEFAULT_SOCKET = "/run/adamant/adamant.sock";
/**
 * A daemon answers within microseconds; one that needs this long is not well, and a request that
 * waits for it is not helped by waiting on.
 */
const DEFAULT_TIMEOUT_MS = 50;

export class Client {
  // Private, so that nothing that shows the client shows the frames in it.
  #session;

  constructor(options = {}) {
    const { socket, timeoutMs, as } = checkKeys("options", options, ["socket", "timeoutMs", "as"]);
    if (as !== undefined && as !== "digests" && as !== "tokens") {
      throw new TypeError('as is "digests" or "tokens"');
    }
    this.#session = new Session(
      socket ?? (process.env.ADAMANT_SOCKET || DEFAULT_SOCKET),
      checkTimeout(timeoutMs ?? DEFAULT_TIMEOUT_MS),
      as,
    );
  }

  verify(token, need) {
    return new Promise((resolve, reject) => {
      checkToken(token);
      this.#session.ask([token], Requirement.of(need), ([answer]) => resolve(answer), reject);
    });
  }

  verifyMany(tokens, need) {
    return new Promise((resolve, reject) => {
      const copy = [...tokens];
      copy.forEach(checkToken);
      this.#session.ask(copy, Requirement.of(need), resolve, reject);
    });
  }

  close() {
    this.#session.close();
  }

  [inspect.custom](depth, options) {
    const { socket, timeoutMs } = this.#session;
    return `Client ${inspect({ socket, timeoutMs }, options)}`;
  }
}

/** No message here may hold what was given: it may be half a token. */
function checkToken(token) {
  if (typeof token !== "string" && !(token instanceof Uint8Array)) {
    throw new TypeError("a token is a text or a Uint8Array");
  }
}
