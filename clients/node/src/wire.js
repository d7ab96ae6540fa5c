// Replies of the daemon, read where they stand in the receive buffer; and what is fixed in a frame.
//
// docs/protocol.md of the project gives every byte. A reply has one encoding: whatever else comes is
// a FrameError, and then the connection is of no more use.

export const PREFIX_BYTES = 4;
/** The longest body of a reply. */
export const FRAME_BYTES_MAX = 1 << 20;
/** What every daemon takes in a body: one that takes less is not version 1. */
export const FRAME_BYTES_MIN = 1 << 16;
/** The longest text that is looked at as a token. */
export const TOKEN_BYTES_MAX = 4096;
export const DIGEST_BYTES = 32;

export const REQUEST = { HELLO: 0, VERIFY: 1, VERIFY_TOKENS: 2 };
export const REPLY = { HELLO: 0, VERDICTS: 1, STATUS: 2, ERROR: 3 };

/** The only version of the protocol that this client speaks. */
export const VERSION = 1;
export const HELLO = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0, VERSION, 0, 0, 0]);

/** By number, in the order in which the causes are looked at. */
export const VERDICTS = [
  "unavailable",
  "malformed",
  "unknown",
  "caller_not_allowed",
  "revoked",
  "not_yet_valid",
  "expired",
  "wrong_kind",
  "wrong_audience",
  "insufficient_scope",
  "valid",
];
export const UNAVAILABLE = 0;
const UNKNOWN = 2;
export const VALID = 10;

/** By number. After the first four the daemon closes. */
export const ERRORS = [
  undefined,
  "malformed frame",
  "frame too large",
  "version",
  "hello first",
  "not permitted",
  "busy",
  "too many",
  "internal",
];
const MESSAGE_BYTES_MAX = 1024;
const FOREIGN_MAX = 4;

const STALE = 1;
export const ROW_BYTES = 24;
export const ID_BYTES = 11;
export const NO_RECORD = 255;
/** 2020-01-01, where the seconds of a row begin to count. */
export const TABLE_EPOCH_S = 1_577_836_800;

/** Bytes that are no reply of this protocol. */
export class FrameError extends Error {}

/** What is left of a body. Every read looks first whether it is there. */
export class Reader {
  constructor(buffer, at, end) {
    this.buffer = buffer;
    this.at = at;
    this.end = end;
  }

  /** Steps over `bytes` bytes, and says where they begin. */
  skip(bytes) {
    const at = this.at;
    if (this.end - at < bytes) throw new FrameError("the body ends inside a field");
    this.at = at + bytes;
    return at;
  }

  u8() {
    return this.buffer[this.skip(1)];
  }

  u32() {
    return this.buffer.readUInt32LE(this.skip(4));
  }

  /**
   * A number where a number can hold it, else a BigInt. So two of them are equal by `===`, and `<`
   * compares them exactly, of whichever type they are.
   */
  u64() {
    const at = this.skip(8);
    const low = this.buffer.readUInt32LE(at);
    const high = this.buffer.readUInt32LE(at + 4);
    return high < 0x200000 ? high * 0x1_0000_0000 + low : this.buffer.readBigUInt64LE(at);
  }

  /** A length or a count of things that have `bytes` bytes each at least: it fits what follows. */
  count(bytes) {
    const found = this.u64();
    if (found > (this.end - this.at) / bytes) throw new FrameError("a count exceeds its frame");
    return Number(found);
  }

  text() {
    const length = this.count(1);
    const at = this.skip(length);
    const text = this.buffer.toString("utf8", at, at + length);
    // What is not UTF-8 is decoded as this character, which few texts really have.
    if (
      text.includes("\uFFFD") &&
      !this.buffer.subarray(at, at + length).equals(Buffer.from(text))
    ) {
      throw new FrameError("a text is not UTF-8");
    }
    return text;
  }

  texts(countMax) {
    const count = this.count(8);
    if (count > countMax) throw new FrameError("a list is longer than it may be");
    return Array.from({ length: count }, () => this.text());
  }

  finish() {
    if (this.at !== this.end) throw new FrameError("bytes after the last field");
  }
}

/** The rest of a HELLO. Without a prefix, the daemon has no generation. */
export function readHello(reader) {
  const version = reader.u32();
  if (version !== VERSION) {
    throw new FrameError(
      `the daemon speaks version ${version} of the protocol, this client ${VERSION}: upgrade the older`,
    );
  }
  const keyAt = reader.skip(DIGEST_BYTES);
  const hello = {
    key: new Uint8Array(reader.buffer.subarray(keyAt, keyAt + DIGEST_BYTES)),
    prefix: reader.text(),
    foreign: reader.texts(FOREIGN_MAX),
    epoch: reader.u64(),
    generation: reader.u64(),
    frameBytesMax: reader.u32(),
    digestsMax: reader.u32(),
    tokensMax: reader.u32(),
    claimsRowsMax: reader.u32(),
  };
  reader.finish();
  if (hello.prefix !== "" && !/^[a-z][a-z0-9]{1,9}$/.test(hello.prefix)) {
    throw new FrameError("the daemon's prefix is none");
  }
  const counts = [hello.digestsMax, hello.tokensMax, hello.claimsRowsMax];
  if (hello.frameBytesMax < FRAME_BYTES_MIN || counts.includes(0)) {
    throw new FrameError("the daemon's limits are below those of version 1");
  }
  return hello;
}

/** The rest of an ERROR. */
export function readError(reader) {
  const number = reader.u32();
  const text = reader.text();
  reader.finish();
  if (ERRORS[number] === undefined) throw new FrameError(`no error has the number ${number}`);
  if (text.length > MESSAGE_BYTES_MAX) throw new FrameError("the message of an error is too long");
  return { number, name: ERRORS[number], text };
}

/** What all rows of a VERDICTS come from; the rows come next. */
export function readEvidence(reader) {
  const flags = reader.u32();
  if (flags > STALE) throw new FrameError(`unknown flags ${flags}`);
  return {
    stale: flags === STALE,
    epoch: reader.u64(),
    generation: reader.u64(),
    revocations: reader.u64(),
    age: Number(reader.u64()),
  };
}

/** Steps over the rows, of which there must be `expected`, and says where they begin. */
export function skipRows(reader, expected) {
  const found = reader.u64();
  if (found !== expected) throw new FrameError(`${found} rows in answer to ${expected}`);
  return reader.skip(expected * ROW_BYTES);
}

/** The row at `at`: verdict by number, id (null without a record) and expiry, Unix seconds. */
export function readRow(buffer, at) {
  const verdict = buffer.readUInt32LE(at);
  const hasRecord = buffer[at + 4 + ID_BYTES] !== NO_RECORD;
  const expires = buffer.readUInt32LE(at + 16);
  if (verdict > VALID) throw new FrameError(`no verdict has the number ${verdict}`);
  if (hasRecord ? verdict <= UNKNOWN : verdict === VALID || !isEmptyRecord(buffer, at)) {
    throw new FrameError("a row contradicts itself");
  }
  return {
    verdict,
    tokenId: hasRecord ? readId(buffer, at + 4) : null,
    expires: expires === 0 ? null : TABLE_EPOCH_S + expires,
  };
}

function isEmptyRecord(buffer, at) {
  for (let byte = at + 4; byte < at + ROW_BYTES; byte += 1) {
    if (buffer[byte] !== 0 && byte !== at + 4 + ID_BYTES) return false;
  }
  return true;
}

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const FOUR_DIGITS = 62 ** 4;
const LIMB = 2 ** 22;

/**
 * The id at `at`, 11 bytes big-endian, as 14 base62 digits. Four limbs of 22 bits are divided by
 * 62^4 three times: each step stays below 2^46, where numbers are exact, and no BigInt is made.
 */
function readId(buffer, at) {
  const first = buffer.readUIntBE(at, 6);
  const last = buffer.readUIntBE(at + 5, 6);
  // The two overlap in one byte: 44 bits of each are taken.
  const high = Math.floor(first / 16);
  const low = last % 2 ** 44;
  const limbs = [Math.floor(high / LIMB), high % LIMB, Math.floor(low / LIMB), low % LIMB];
  let text = "";
  for (let chunk = 0; chunk < 3; chunk += 1) text = digits(divide(limbs, FOUR_DIGITS), 4) + text;
  const rest = limbs[2] * LIMB + limbs[3];
  if (limbs[0] !== 0 || limbs[1] !== 0 || rest >= 62 ** 2) {
    throw new FrameError("an id that no token has");
  }
  return digits(rest, 2) + text;
}

/** Divides the number in `limbs` in place, and gives the remainder. */
function divide(limbs, divisor) {
  let rest = 0;
  for (let index = 0; index < limbs.length; index += 1) {
    const part = rest * LIMB + limbs[index];
    limbs[index] = Math.floor(part / divisor);
    rest = part % divisor;
  }
  return rest;
}

function digits(number, count) {
  let text = "";
  for (let left = number; text.length < count; left = Math.floor(left / 62)) {
    text = DIGITS[left % 62] + text;
  }
  return text;
}

const SCOPES_MAX = 64;

/** The claims of one row, or null for a token without a record. Empty texts are null. */
export function readClaims(reader) {
  const has = reader.u8();
  if (has > 1) throw new FrameError(`${has} where only 0 or 1 may stand`);
  if (has === 0) return null;
  return {
    kind: reader.text() || null,
    audience: reader.text() || null,
    scopes: reader.texts(SCOPES_MAX),
    subject: reader.text() || null,
    meta: reader.text() || null,
  };
}
