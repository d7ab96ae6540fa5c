// From a presented text to the digest that the daemon knows the token by.
//
// docs/protocol.md, "From a token to its digest", is what this file does. BLAKE3 comes from the
// optional package @noble/hashes; without it the client sends the tokens themselves.

import { createHash } from "node:crypto";

import { TOKEN_BYTES_MAX } from "./wire.js";

/** BLAKE3 as `(bytes, { key }) => digest`, or null. Begun on import, so that no call waits for it. */
export const loadingBlake3 = loadBlake3();

async function loadBlake3() {
  // Version 2 has the first name alone, early versions 1 only the second.
  for (const name of ["@noble/hashes/blake3.js", "@noble/hashes/blake3"]) {
    try {
      return (await import(name)).blake3;
    } catch {
      // It is optional: not there is as good as not usable.
    }
  }
  return null;
}

const SCHEME = "secret-token:";
/** `1`, an id of 14 digits, a secret of 30 and a check of 6. */
const BODY_BYTES = 51;
const KIND_BYTES_MAX = 8;
const CHECK_BYTES = 6;

/** What came of a text: it is no token; or not yet, since an import can add an algorithm. */
export const MALFORMED = Symbol("malformed");
export const NOT_YET = Symbol("not yet");

/** All that is needed to turn tokens of one deployment into digests. */
export class Domain {
  #blake3;
  #key;
  #prefix;
  #foreign;

  constructor(blake3, hello) {
    this.#blake3 = blake3;
    this.#key = hello.key;
    this.#prefix = Buffer.from(`${hello.prefix}_`);
    this.#foreign = hello.foreign;
  }

  /** Whether all that was imported can be hashed. If not, imported tokens would seem unknown. */
  static canHash(hello) {
    return (
      hello.foreign.length === 0 || (hello.foreign.length === 1 && hello.foreign[0] === "sha256")
    );
  }

  /** The digest of a presented text (text or bytes), or MALFORMED or NOT_YET. */
  digest(presented) {
    const bytes = bytesOf(presented);
    if (bytes === null) return MALFORMED;
    const text = withoutScheme(bytes);
    if (this.#isOurs(text)) {
      return isWellFormed(text, this.#prefix.length) ? this.#keyed(text) : MALFORMED;
    }
    if (text.length === 0 || text.length > TOKEN_BYTES_MAX) return MALFORMED;
    return this.#foreign.length === 0 ? NOT_YET : this.#foreignDigest(text);
  }

  #foreignDigest(text) {
    const stored = createHash("sha256").update(text).digest();
    return this.#keyed(Buffer.concat([SHA256_NAME, stored]));
  }

  /** @noble/hashes wipes the key that it is given, so it is given a copy. */
  #keyed(bytes) {
    return this.#blake3(bytes, { key: this.#key.slice() });
  }

  #isOurs(text) {
    const longer = text.length - this.#prefix.length;
    if (longer < 1 + 1 + BODY_BYTES || longer > KIND_BYTES_MAX + 1 + BODY_BYTES) return false;
    return startsWith(text, this.#prefix);
  }
}

const SHA256_NAME = Buffer.from("sha256\0");

/** One presented text at a time is looked at, so one place for its bytes is enough. */
const scratch = Buffer.alloc(SCHEME.length + TOKEN_BYTES_MAX + 4);

/** The bytes of a token, which are good until the next call; null if there are too many. */
function bytesOf(token) {
  if (typeof token !== "string") return token;
  const bytesMax = SCHEME.length + TOKEN_BYTES_MAX;
  if (token.length > bytesMax) return null;
  // A text that does not fit is cut, within one character of the end, and is still too long.
  const length = scratch.write(token);
  return length > bytesMax ? null : scratch.subarray(0, length);
}

function withoutScheme(text) {
  for (let index = 0; index < SCHEME.length; index += 1) {
    // Nothing but letters differs from its upper case by this bit, and `-` and `:` have it set.
    if ((text[index] | 0x20) !== SCHEME.charCodeAt(index)) return text;
  }
  return text[6] === 0x2d && text[12] === 0x3a ? text.subarray(SCHEME.length) : text;
}

function startsWith(text, start) {
  for (let index = 0; index < start.length; index += 1) {
    if (text[index] !== start[index]) return false;
  }
  return true;
}

/** Whether `kind_1` and 50 digits stand from `at` on, the last six of which are the check. */
function isWellFormed(text, at) {
  const bodyAt = text.length - BODY_BYTES;
  for (let index = at; index < bodyAt - 1; index += 1) {
    if (!isKindByte(text[index])) return false;
  }
  if (text[bodyAt - 1] !== 0x5f || text[bodyAt] !== 0x31) return false;
  for (let index = bodyAt; index < text.length; index += 1) {
    if (VALUES[text[index]] === NO_DIGIT) return false;
  }
  const checkAt = text.length - CHECK_BYTES;
  let check = 0;
  for (let index = checkAt; index < text.length; index += 1) {
    check = check * 62 + VALUES[text[index]];
  }
  return check === crc32(text, checkAt);
}

function isKindByte(byte) {
  return (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39);
}

const NO_DIGIT = 255;
/** Value of each byte as a base62 digit. */
const VALUES = new Uint8Array(256).fill(NO_DIGIT);
Buffer.from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz").forEach(
  (byte, value) => {
    VALUES[byte] = value;
  },
);

const CRC_TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** CRC-32 (ISO-HDLC) of the first `end` bytes. node:zlib has it from Node 22 on. */
function crc32(bytes, end) {
  let crc = 0xffffffff;
  for (let index = 0; index < end; index += 1) {
    crc = CRC_TABLE[(crc ^ bytes[index]) & 0xff] ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
