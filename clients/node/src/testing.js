// A daemon for the tests of a service: real frames at a real socket, and tokens that the test makes
// up. It needs no table, no keys and no second process.

import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";

import { checkKeys } from "./check.js";
import { Client } from "./client.js";
import { FAKE_HELLO, pushError, pushHello, pushVerdicts, readRequest } from "./testing_frames.js";
import { Domain, loadingBlake3 } from "./token.js";
import { FRAME_BYTES_MAX, PREFIX_BYTES, REQUEST, VERDICTS } from "./wire.js";

const CLAIMS = ["kind", "subject", "audience", "scopes", "meta", "expires"];
const MALFORMED_FRAME = 1;

export class FakeDaemon {
  /** Where it listens. */
  socket;
  #folder;
  #server;
  #domain;
  #connections = new Set();
  #byText = new Map();
  #byDigest = new Map();
  /** Each change is another generation, as with the real one. */
  #generation = 1;
  #isAvailable = true;

  /** A daemon at a socket of its own, in a temporary folder. */
  static async listen() {
    const fake = new FakeDaemon();
    await fake.#begin();
    return fake;
  }

  async #begin() {
    const blake3 = await loadingBlake3;
    this.#domain = blake3 === null ? null : new Domain(blake3, FAKE_HELLO);
    this.#folder = await mkdtemp(path.join(os.tmpdir(), "adamant-fake-"));
    this.socket = path.join(this.#folder, "socket");
    this.#server = net.createServer((connection) => this.#serve(connection));
    await new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.socket, resolve);
    });
    this.#server.unref();
  }

  /** A client of it. */
  client(options = {}) {
    return new Client({ ...options, socket: this.socket });
  }

  /** From now on `token`, any text, is valid and has these claims. Gives its id. */
  trust(token, claims = {}) {
    checkKeys("claims", claims, CLAIMS);
    const {
      kind = "live",
      subject = "",
      audience = "",
      scopes = [],
      meta = "",
      expires = null,
    } = claims;
    const id = this.#byText.size;
    const known = { id, kind, subject, audience, scopes, meta, expires, isRevoked: false };
    this.#byText.set(token, known);
    if (this.#domain !== null) this.#byDigest.set(hex(this.#domain.digest(token)), known);
    this.#generation += 1;
    return String(id).padStart(14, "0");
  }

  /** From now on `token` is revoked. */
  revoke(token) {
    const known = this.#byText.get(token);
    if (known === undefined) throw new Error("revoke: it was never trusted");
    known.isRevoked = true;
    this.#generation += 1;
  }

  /** Whether there is a generation to answer from. */
  setAvailable(isAvailable) {
    this.#isAvailable = isAvailable;
    this.#generation += 1;
  }

  async close() {
    for (const connection of this.#connections) connection.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#folder, { recursive: true });
  }

  #serve(connection) {
    this.#connections.add(connection);
    connection.on("close", () => this.#connections.delete(connection));
    // A client that goes away in the middle of a frame is none of our errors.
    connection.on("error", () => connection.destroy());
    let received = Buffer.alloc(0);
    connection.on("data", (chunk) => {
      received = this.#takeFrames(connection, Buffer.concat([received, chunk]));
    });
    connection.unref();
  }

  /** Answers all frames that are there, and gives what is left. */
  #takeFrames(connection, bytes) {
    let at = 0;
    while (bytes.length - at >= PREFIX_BYTES) {
      const length = bytes.readUInt32LE(at);
      const end = at + PREFIX_BYTES + length;
      if (length > FRAME_BYTES_MAX || end > bytes.length) break;
      connection.write(this.#reply(bytes.subarray(at + PREFIX_BYTES, end)));
      at = end;
    }
    return bytes.subarray(at);
  }

  #reply(body) {
    const request = readRequest(body);
    if (request === null) return pushError(MALFORMED_FRAME, "the fake does not know this frame");
    if (request.number === REQUEST.HELLO) return pushHello(this.#isAvailable, this.#generation);
    const asked = request.items.map((item) => this.#find(request.number, item));
    const rows = asked.map((known) => ({ known, verdict: this.#judge(known, request) }));
    return pushVerdicts(this.#isAvailable, this.#generation, rows, request.claims);
  }

  #find(number, item) {
    if (!this.#isAvailable) return undefined;
    return number === REQUEST.VERIFY
      ? this.#byDigest.get(hex(item))
      : this.#byText.get(String(item));
  }

  #judge(known, request) {
    return VERDICTS.indexOf(this.#isAvailable ? verdictOn(known, request) : "unavailable");
  }
}

/** The first cause that holds, in the order of the verdicts. */
function verdictOn(known, { kind, audience, scopes }) {
  if (known === undefined) return "unknown";
  if (known.isRevoked) return "revoked";
  if (known.expires !== null && known.expires <= new Date()) return "expired";
  if (kind !== null && kind !== known.kind) return "wrong_kind";
  if (audience !== null && audience !== known.audience) return "wrong_audience";
  if (!scopes.every((scope) => known.scopes.includes(scope))) return "insufficient_scope";
  return "valid";
}

function hex(digest) {
  return Buffer.from(digest).toString("hex");
}
