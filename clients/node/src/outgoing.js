// Frames on their way out.

import { MALFORMED, NOT_YET } from "./token.js";
import { DIGEST_BYTES, FRAME_BYTES_MIN, PREFIX_BYTES, REQUEST, TOKEN_BYTES_MAX } from "./wire.js";

/** Memory that frames are written into, one behind the other. */
const PIECE_BYTES = 1 << 16;
/** Enough that the frame costs nothing beside its rows, and every daemon takes it. */
const ROWS_A_FRAME = 1024;
/**
 * How old a HELLO may be that makes us call a text malformed which an import could make a token.
 * Long enough that a flood of such texts does not become a flood of connections.
 */
const HELLO_AGE_MAX_MS = 1000;
const COUNT_BYTES = 8;
/** UTF-8 has at most this many bytes for a unit of a JavaScript text. */
const BYTES_A_UNIT = 3;

export class Outgoing {
  /** `push` needs a newer HELLO. */
  static TOO_OLD = -1;
  #socket;
  #domain;
  #limits;
  #helloAt = performance.now();
  #piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  /** What is written stands before `from`, what is to be written before `to`. */
  #from = 0;
  #to = 0;
  #isScheduled = false;

  /** Without a domain, the daemon is handed the tokens themselves. */
  constructor(socket, hello, domain) {
    this.#socket = socket;
    this.#domain = domain;
    const rows = domain === null ? hello.tokensMax : hello.digestsMax;
    this.#limits = { rows, claimsRows: hello.claimsRowsMax };
  }

  /** Adds a frame with the next tokens of `call`, and says how many are in it. */
  push(call) {
    const { claims } = call.requirement;
    const { rows, claimsRows } = this.#limits;
    const rowsMax = Math.min(ROWS_A_FRAME, rows, claims ? claimsRows : Infinity);
    const count =
      this.#domain === null ? this.#pushTokens(call, rowsMax) : this.#pushDigests(call, rowsMax);
    if (count > 0 && !this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(() => this.#flush());
    }
    return count;
  }

  #flush() {
    this.#isScheduled = false;
    if (this.#from === this.#to || this.#socket.destroyed) return;
    this.#socket.write(this.#piece.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }

  #pushDigests(call, rowsMax) {
    const { tokens, requirement } = call;
    const rows = Math.min(rowsMax, tokens.length - call.next);
    this.#reserve(this.#headBytes(requirement) + rows * DIGEST_BYTES);
    const rowsAt = this.#to + this.#headBytes(requirement);
    let count = 0;
    for (; call.next < tokens.length && count < rowsMax; call.next += 1) {
      const digest = this.#domain.digest(tokens[call.next]);
      if (digest === NOT_YET && this.#isOld(call)) return Outgoing.TOO_OLD;
      if (digest === NOT_YET || digest === MALFORMED) {
        call.setMalformed(call.next);
      } else {
        this.#piece.set(digest, rowsAt + count * DIGEST_BYTES);
        count += 1;
      }
    }
    if (count > 0) this.#end(REQUEST.VERIFY, requirement, count, rowsAt + count * DIGEST_BYTES);
    return count;
  }

  #pushTokens(call, rowsMax) {
    const { tokens, requirement } = call;
    const head = this.#headBytes(requirement);
    const bytesMax = PREFIX_BYTES + FRAME_BYTES_MIN;
    this.#reserve(tokens.length === 1 ? head + roomOf(tokens[0]) : bytesMax);
    let at = this.#to + head;
    let count = 0;
    for (; call.next < tokens.length && count < rowsMax; call.next += 1) {
      const token = tokens[call.next];
      if (isTooLong(token)) {
        call.setMalformed(call.next);
        continue;
      }
      // A token that might not fit begins the next frame; one alone always fits.
      if (count > 0 && at - this.#to + roomOf(token) > bytesMax) break;
      at = this.#pushToken(token, at);
      count += 1;
    }
    if (count > 0) this.#end(REQUEST.VERIFY_TOKENS, requirement, count, at);
    return count;
  }

  #pushToken(token, at) {
    const textAt = at + COUNT_BYTES;
    if (typeof token !== "string") this.#piece.set(token, textAt);
    const length = typeof token === "string" ? this.#piece.write(token, textAt) : token.length;
    this.#piece.writeUInt32LE(length, at);
    this.#piece.writeUInt32LE(0, at + 4);
    return textAt + length;
  }

  /** Bytes of a frame before its first row. */
  #headBytes(requirement) {
    return PREFIX_BYTES + 4 + requirement.head.length + COUNT_BYTES;
  }

  /** Puts in what stands before the rows, and ends the frame at `end`. */
  #end(number, requirement, count, end) {
    const piece = this.#piece;
    const at = this.#to;
    piece.writeUInt32LE(end - at - PREFIX_BYTES, at);
    piece.writeUInt32LE(number, at + 4);
    piece.set(requirement.head, at + 8);
    const countAt = at + 8 + requirement.head.length;
    piece.writeUInt32LE(count, countAt);
    piece.writeUInt32LE(0, countAt + 4);
    this.#to = end;
  }

  /** Makes room for `bytes` bytes in one piece. A piece that is full is left to the socket. */
  #reserve(bytes) {
    if (this.#piece.length - this.#to >= bytes) return;
    this.#flush();
    this.#piece = Buffer.allocUnsafeSlow(Math.max(PIECE_BYTES, bytes));
    this.#from = 0;
    this.#to = 0;
  }

  /** Whether the HELLO is too old for `call`. That of a connection that it opened never is. */
  #isOld(call) {
    return !call.isFresh && performance.now() - this.#helloAt > HELLO_AGE_MAX_MS;
  }
}

/** Bytes that a token may need in a frame. */
function roomOf(token) {
  return COUNT_BYTES + (typeof token === "string" ? token.length * BYTES_A_UNIT : token.length);
}

function isTooLong(token) {
  if (typeof token !== "string") return token.length > TOKEN_BYTES_MAX;
  if (token.length * BYTES_A_UNIT <= TOKEN_BYTES_MAX) return false;
  return token.length > TOKEN_BYTES_MAX || Buffer.byteLength(token) > TOKEN_BYTES_MAX;
}
