// What a service asks for, checked once and kept as the bytes that stand in each question.

import { text, u32, u64 } from "./bytes.js";
import { checkKeys } from "./check.js";

const KIND_BYTES_MAX = 8;
const AUDIENCE_BYTES_MAX = 255;
const SCOPE_BYTES_MAX = 128;
const SCOPES_MAX = 64;

const KEYS = ["kind", "audience", "scope", "scopes", "claims"];
const CLAIMS_WANTED = 1;

export class Requirement {
  /** Flags and requirement, as they stand after the number of a VERIFY or VERIFY_TOKENS. */
  head;
  /** Whether the reply should carry claims. */
  claims;
  /** The scopes that are asked for. */
  scopes;

  /** The requirement that `need` is, or names. */
  static of(need = {}) {
    return need instanceof Requirement ? need : new Requirement(need);
  }

  constructor(need) {
    const {
      kind,
      audience,
      scope,
      scopes = [],
      claims = true,
    } = checkKeys("requirement", need, KEYS);
    if (!Array.isArray(scopes)) throw new TypeError("scopes is a list of texts; scope is one text");
    if (typeof claims !== "boolean") throw new TypeError("claims is true or false");
    this.claims = claims;
    this.scopes = scope === undefined ? [...scopes] : [scope, ...scopes];
    if (this.scopes.length > SCOPES_MAX) {
      throw new RangeError(`${this.scopes.length} scopes, at most ${SCOPES_MAX} are allowed`);
    }
    this.head = Buffer.concat([
      u32(claims ? CLAIMS_WANTED : 0),
      optional("kind", kind, KIND_BYTES_MAX),
      optional("audience", audience, AUDIENCE_BYTES_MAX),
      u64(this.scopes.length),
      ...this.scopes.map((value) => field("scope", value, SCOPE_BYTES_MAX)),
    ]);
  }
}

function optional(name, value, bytesMax) {
  if (value === undefined) return Buffer.from([0]);
  return Buffer.concat([Buffer.from([1]), field(name, value, bytesMax)]);
}

function field(name, value, bytesMax) {
  if (typeof value !== "string" || value === "")
    throw new TypeError(`${name} is a text, and not empty`);
  const bytes = Buffer.byteLength(value);
  if (bytes > bytesMax) {
    throw new RangeError(`the ${name} has ${bytes} bytes, at most ${bytesMax} are allowed`);
  }
  return text(value);
}
