// One connection: questions out, replies in, in order.
//
// Frames of one turn of the event loop are put together in one piece of memory and written at once;
// the daemon answers them as one batch. Replies are read into one buffer and taken where they stand.
// Writing never waits here, so it cannot come to a deadlock with a daemon that stops reading while
// its replies are not read.
//
// Who waits for a reply stands in a queue. A call that has gone on to another connection stays in
// it: its reply is dropped, and nobody gets the reply of another.

import net from "node:net";

import { Answer } from "./answer.js";
import {
  DAEMON,
  broken,
  cannotHash,
  noGeneration,
  refused,
  timedOut,
  unreachable,
  unreadable,
  wentBack,
} from "./errors.js";
import { isBefore } from "./order.js";
import { Outgoing } from "./outgoing.js";
import { Domain, loadingBlake3 } from "./token.js";
import {
  FRAME_BYTES_MAX,
  FrameError,
  HELLO,
  PREFIX_BYTES,
  REPLY,
  ROW_BYTES,
  Reader,
  UNAVAILABLE,
  VALID,
  readClaims,
  readError,
  readEvidence,
  readHello,
  readRow,
  skipRows,
} from "./wire.js";

/** The receive buffer at first; it grows to the longest frame that comes. */
const READ_BYTES = 1 << 16;
/** Frames of one call in flight: enough that the daemon is never idle, and the rest can wait. */
const FRAMES_A_CALL = 8;

export class Link {
  /** HELLO was answered. */
  isOpen = false;
  #session;
  #socket;
  #outgoing;
  /** Calls until HELLO is answered. */
  #early = [];
  /** Frames without a reply, linked from the first to the last. */
  #first = null;
  #last = null;
  /** Calls on this connection. */
  #calls = 0;
  #timer;
  #timerAt = Infinity;
  #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  /** Bytes at the start of the buffer that were not taken yet. */
  #received = 0;
  /** No reply may come from an earlier state than this. */
  #seen;
  #isRetired = false;
  #isEnded = false;

  constructor(session) {
    this.#session = session;
    this.#seen = session.seen;
    this.#socket = net.connect({
      path: session.socket,
      onread: { buffer: () => this.#room(), callback: (bytes) => this.#onBytes(bytes) },
    });
    this.#socket.on("connect", () => this.#onConnect());
    this.#socket.on("error", (err) => this.#onError(err));
    this.#socket.on("close", () => this.end(broken(session.socket)));
  }

  /** Asks what `call` asks, as soon as it can be asked. */
  take(call) {
    call.link = this;
    this.#calls += 1;
    if (this.#calls === 1) this.#socket.ref();
    if (call.deadline < this.#timerAt) this.#arm(call.deadline);
    if (this.isOpen) this.#send(call);
    else this.#early.push(call);
  }

  /** Closes. Calls that are under way get another connection or `failure`. */
  end(failure, isOverdue = () => false) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#session.leave(this);
    this.#socket.destroy();
    clearTimeout(this.#timer);
    const mayGoOn = this.isOpen && failure.reason === "closed";
    for (const call of this.#callsUnderWay()) {
      call.link = null;
      if (isOverdue(call)) call.fail(timedOut(this.#session.socket, this.#session.timeoutMs));
      else if (mayGoOn) this.#session.again(call, failure);
      else call.fail(failure);
    }
  }

  *#callsUnderWay() {
    for (const call of this.#early) if (call.link === this) yield call;
    for (let frame = this.#first; frame !== null; frame = frame.next) {
      if (frame.call.link === this) yield frame.call;
    }
  }

  // Opening

  /**
   * A daemon that takes no more connections says so unasked, and closes. What it says is lost once
   * a write has failed. So what has come already is read before HELLO is written: the loop polls
   * between two immediates.
   */
  #onConnect() {
    setImmediate(() => setImmediate(() => this.#isEnded || this.#socket.write(HELLO)));
  }

  #onError(err) {
    const { socket } = this.#session;
    this.end(err.syscall === "connect" ? unreachable(DAEMON, socket, err) : broken(socket, err));
  }

  #onHello(hello) {
    if (hello.prefix === "") return this.end(noGeneration(this.#session.socket));
    // HELLO does not name the revocations.
    const { epoch, generation } = hello;
    const order = { epoch, generation, revocations: this.#seen.revocations };
    const hasGeneration = epoch !== 0 || generation !== 0;
    if (hasGeneration && isBefore(order, this.#seen)) {
      return this.end(wentBack(this.#session.socket, order, this.#seen));
    }
    if (isBefore(this.#seen, order)) this.#seen = { ...order, revocations: 0 };
    loadingBlake3.then((blake3) => this.#isEnded || this.#open(hello, blake3));
  }

  #open(hello, blake3) {
    const { as } = this.#session;
    const canHash = blake3 !== null && Domain.canHash(hello);
    if (as === "digests" && !canHash) return this.end(cannotHash());
    const domain = canHash && as !== "tokens" ? new Domain(blake3, hello) : null;
    this.#outgoing = new Outgoing(this.#socket, hello, domain);
    this.isOpen = true;
    for (const call of this.#early.splice(0)) this.#send(call);
  }

  // Asking

  /** Puts as much of `call` on its way as may be in flight. */
  #send(call) {
    while (call.next < call.tokens.length && call.unanswered < FRAMES_A_CALL) {
      const from = call.next;
      const count = this.#outgoing.push(call);
      if (count === Outgoing.TOO_OLD) return this.#retire(call);
      if (count > 0) this.#await({ call, from, to: call.next, count, next: null });
    }
    if (call.unanswered === 0) this.#done(call);
  }

  #await(frame) {
    frame.call.unanswered += 1;
    if (this.#first === null) this.#first = frame;
    else this.#last.next = frame;
    this.#last = frame;
  }

  /** HELLO is too old to say of a text of `call` that it is no token: another one is needed. */
  #retire(call) {
    this.#isRetired = true;
    this.#session.leave(this);
    this.#leave(call);
    this.#session.again(call, broken(this.#session.socket));
  }

  #done(call) {
    this.#leave(call);
    call.take(call.answers);
  }

  #leave(call) {
    call.link = null;
    this.#calls -= 1;
    if (this.#calls > 0) return;
    if (this.#isRetired) this.end(broken(this.#session.socket));
    // A connection that nobody waits for keeps no process alive.
    else this.#socket.unref();
  }

  // Reading

  /** Where the next bytes go. */
  #room() {
    return this.#received === 0 ? this.#buffer : this.#buffer.subarray(this.#received);
  }

  #onBytes(bytes) {
    this.#received += bytes;
    try {
      this.#takeFrames();
    } catch (err) {
      if (!(err instanceof FrameError)) throw err;
      this.end(unreadable(this.#session.socket, err));
    }
  }

  #takeFrames() {
    let at = 0;
    let wanted = PREFIX_BYTES;
    while (this.#received - at >= PREFIX_BYTES) {
      const length = this.#buffer.readUInt32LE(at);
      if (length === 0 || length > FRAME_BYTES_MAX)
        throw new FrameError(`a body of ${length} bytes`);
      wanted = PREFIX_BYTES + length;
      if (this.#received - at < wanted) break;
      this.#onReply(new Reader(this.#buffer, at + PREFIX_BYTES, at + wanted));
      if (this.#isEnded) return;
      at += wanted;
    }
    this.#keep(at, wanted);
  }

  /** Moves what was not taken to the start of a buffer with room for a frame of `wanted` bytes. */
  #keep(at, wanted) {
    const old = this.#buffer;
    if (wanted > old.length) this.#buffer = Buffer.allocUnsafeSlow(wanted);
    if (at > 0 || this.#buffer !== old) old.copy(this.#buffer, 0, at, this.#received);
    this.#received -= at;
  }

  #onReply(reader) {
    const number = reader.u32();
    if (!this.isOpen) return this.#onFirstReply(number, reader);
    const frame = this.#first;
    if (frame === null) throw new FrameError("a reply that nobody asked for");
    if (number !== REPLY.VERDICTS && number !== REPLY.ERROR) {
      throw new FrameError("a reply of another sort than the question");
    }
    this.#first = frame.next;
    const { call } = frame;
    if (call.link !== this) return;
    call.unanswered -= 1;
    try {
      if (number === REPLY.ERROR) throw refused(this.#session.socket, readError(reader));
      this.#takeVerdicts(frame, reader);
    } catch (failure) {
      return this.#failed(call, failure);
    }
    this.#send(call);
  }

  #onFirstReply(number, reader) {
    const { socket } = this.#session;
    if (number === REPLY.ERROR) return this.end(refused(socket, readError(reader)));
    if (number !== REPLY.HELLO) throw new FrameError("the first reply is no HELLO");
    this.#onHello(readHello(reader));
  }

  #failed(call, failure) {
    const isFrameError = failure instanceof FrameError;
    this.#leave(call);
    call.fail(isFrameError ? unreadable(this.#session.socket, failure) : failure);
    // The next reply could not be trusted either. Who else waits gets another connection.
    if (isFrameError || failure.reason === "went_back")
      this.end(broken(this.#session.socket, failure));
  }

  #takeVerdicts(frame, reader) {
    const { call, from, to, count } = frame;
    const evidence = readEvidence(reader);
    const rowsAt = skipRows(reader, count);
    const claimsCount = reader.count(1);
    const { claims: areClaimsWanted } = call.requirement;
    if (claimsCount !== (areClaimsWanted ? count : 0))
      throw new FrameError("claims for other rows");
    if (evidence.epoch === 0 && evidence.generation === 0) throw noGeneration(this.#session.socket);
    this.#accept(evidence, call);
    let rowAt = rowsAt;
    for (let index = from; index < to; index += 1) {
      if (call.answers[index] !== undefined) continue;
      const row = readRow(reader.buffer, rowAt);
      const claims = areClaimsWanted ? readClaims(reader) : null;
      if (row.verdict === UNAVAILABLE) throw noGeneration(this.#session.socket);
      checkClaims(row, claims, areClaimsWanted);
      call.answers[index] = new Answer(row, evidence, claims);
      rowAt += ROW_BYTES;
    }
    reader.finish();
  }

  #accept(evidence, call) {
    const seen = isBefore(this.#seen, call.seen) ? call.seen : this.#seen;
    if (isBefore(evidence, seen)) throw wentBack(this.#session.socket, evidence, seen);
    this.#seen = evidence;
    this.#session.advance(evidence);
  }

  // Time

  /** One timer for all calls: it goes off for the earliest, and looks at all that are there then. */
  #arm(at) {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delayMs = Math.max(1, Math.ceil(at - performance.now()));
    this.#timer = setTimeout(() => this.#onTimer(), delayMs);
    this.#timer.unref();
  }

  /**
   * A process that was busy itself finds the reply waiting. So what has come is read first: the
   * loop polls before the immediate.
   */
  #onTimer() {
    setImmediate(() => this.#lookAtTime());
  }

  #lookAtTime() {
    if (this.#isEnded) return;
    const now = performance.now();
    let earliest = Infinity;
    for (const call of this.#callsUnderWay()) earliest = Math.min(earliest, call.deadline);
    if (earliest <= now) {
      // The late reply must not be taken for the answer to the next question.
      return this.end(broken(this.#session.socket), (call) => call.deadline <= now);
    }
    this.#timerAt = Infinity;
    if (earliest < Infinity) this.#arm(earliest);
  }
}

/** A valid token whose claims were asked for has them; one without a record has none. */
function checkClaims(row, claims, areWanted) {
  const isMissing = areWanted && row.verdict === VALID && claims === null;
  if (isMissing || (claims !== null && row.tokenId === null)) {
    throw new FrameError("claims that do not fit their row");
  }
}
