// The daemon's side of the frames, as far as the fake needs it: requests in, replies out.

import { text, texts, u32, u64 } from "./bytes.js";
import {
  DIGEST_BYTES,
  FRAME_BYTES_MAX,
  FrameError,
  ID_BYTES,
  NO_RECORD,
  REPLY,
  REQUEST,
  ROW_BYTES,
  Reader,
  TABLE_EPOCH_S,
  VERSION,
} from "./wire.js";

/** With a foreign algorithm every text is a token. */
export const FAKE_HELLO = {
  key: new Uint8Array(DIGEST_BYTES).fill(0xfa),
  prefix: "fake",
  foreign: ["sha256"],
};
const LIMITS = [FRAME_BYTES_MAX, 16_384, 4096, 64];
const SCOPES_MAX = 64;
const EPOCH = 1;

/** A request, or null if the fake does not know it. */
export function readRequest(body) {
  const reader = new Reader(body, 0, body.length);
  try {
    const number = reader.u32();
    if (number === REQUEST.HELLO) return { number };
    const claims = reader.u32() === 1;
    const [kind, audience] = [readOptional(reader), readOptional(reader)];
    const scopes = reader.texts(SCOPES_MAX);
    const items = readItems(number, reader);
    reader.finish();
    return { number, claims, kind, audience, scopes, items };
  } catch (err) {
    if (err instanceof FrameError) return null;
    throw err;
  }
}

function readOptional(reader) {
  return reader.u8() === 0 ? null : reader.text();
}

function readItems(number, reader) {
  const isDigests = number === REQUEST.VERIFY;
  const count = reader.count(isDigests ? DIGEST_BYTES : 8);
  return Array.from({ length: count }, () => {
    const length = isDigests ? DIGEST_BYTES : reader.count(1);
    const at = reader.skip(length);
    return reader.buffer.subarray(at, at + length);
  });
}

/** Without a generation, nothing is said of the domain. */
export function pushHello(isAvailable, generation) {
  const { key, prefix, foreign } = FAKE_HELLO;
  return frame([
    u32(REPLY.HELLO),
    u32(VERSION),
    isAvailable ? Buffer.from(key) : Buffer.alloc(DIGEST_BYTES),
    text(isAvailable ? prefix : ""),
    texts(isAvailable ? foreign : []),
    u64(isAvailable ? EPOCH : 0),
    u64(isAvailable ? generation : 0),
    ...LIMITS.map(u32),
  ]);
}

export function pushError(code, message) {
  return frame([u32(REPLY.ERROR), u32(code), text(message)]);
}

/** `rows`: what is known of each token, or undefined, and the number of its verdict. */
export function pushVerdicts(isAvailable, generation, rows, areClaimsWanted) {
  return frame([
    u32(REPLY.VERDICTS),
    u32(0),
    u64(isAvailable ? EPOCH : 0),
    u64(isAvailable ? generation : 0),
    u64(0),
    u64(0),
    u64(rows.length),
    ...rows.map(({ known, verdict }) => row(known, verdict)),
    u64(areClaimsWanted ? rows.length : 0),
    ...(areClaimsWanted ? rows.map(({ known }) => claims(known)) : []),
  ]);
}

function row(known, verdict) {
  const bytes = Buffer.alloc(ROW_BYTES);
  bytes.writeUInt32LE(verdict);
  if (known === undefined) {
    bytes[4 + ID_BYTES] = NO_RECORD;
    return bytes;
  }
  // The number in the id is written in decimal digits, which are base62 digits too.
  idBytes(String(known.id)).copy(bytes, 4);
  if (known.expires !== null) {
    bytes.writeUInt32LE(Math.floor(known.expires / 1000) - TABLE_EPOCH_S, 16);
  }
  return bytes;
}

function idBytes(decimal) {
  const number = [...decimal].reduce((sum, digit) => sum * 62n + BigInt(digit), 0n);
  return Buffer.from(number.toString(16).padStart(2 * ID_BYTES, "0"), "hex");
}

function claims(known) {
  if (known === undefined) return Buffer.from([0]);
  const { kind, audience, scopes, subject, meta } = known;
  const fields = [text(kind), text(audience), texts([...scopes].sort()), text(subject), text(meta)];
  return Buffer.concat([Buffer.from([1]), ...fields]);
}

function frame(parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([u32(body.length), body]);
}
