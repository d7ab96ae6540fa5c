// One client's calls: on the connection there is, or on a new one, and a second time on a new one
// if the first was there before the call and turns out to be broken or out of date. All questions
// may be repeated: none changes anything.
//
// Read next: link.js for one connection.

import { Answer } from "./answer.js";
import { closedByUs } from "./errors.js";
import { Link } from "./link.js";
import { NOTHING_SEEN, isBefore } from "./order.js";

export class Session {
  /** The latest state that an answer came from. */
  seen = NOTHING_SEEN;
  #link = null;
  #isClosed = false;

  /** `as`: "digests", "tokens", or undefined for digests where they can be made. */
  constructor(socket, timeoutMs, as) {
    this.socket = socket;
    this.timeoutMs = timeoutMs;
    this.as = as;
  }

  /** `take` gets the answers, one for each token, or `fail` gets the error. */
  ask(tokens, requirement, take, fail) {
    if (this.#isClosed) return fail(closedByUs(this.socket));
    this.#start(new Call(this, tokens, requirement, take, fail));
  }

  #start(call) {
    this.#link ??= new Link(this);
    call.isFresh ||= !this.#link.isOpen;
    this.#link.take(call);
  }

  /** The connection of `call` failed it, for no fault of the question. */
  again(call, failure) {
    if (call.isFresh || this.#isClosed) return call.fail(failure);
    call.begin();
    this.#start(call);
    call.isFresh = true;
  }

  /** Later calls need another connection than `link`. */
  leave(link) {
    if (this.#link === link) this.#link = null;
  }

  advance(to) {
    if (isBefore(this.seen, to)) this.seen = to;
  }

  close() {
    this.#isClosed = true;
    this.#link?.end(closedByUs(this.socket));
  }
}

/** What was asked at once, and what is known of it so far. */
class Call {
  /** The connection that it is on. */
  link = null;
  /** Its connection was opened for it, so another one would not help. */
  isFresh = false;
  answers;
  /** The first token that is in no frame yet. */
  next;
  /** Frames without a reply. */
  unanswered;

  constructor(session, tokens, requirement, take, fail) {
    this.tokens = tokens;
    this.requirement = requirement;
    this.take = take;
    this.fail = fail;
    /** No answer may come from an earlier state than this. */
    this.seen = session.seen;
    this.deadline = performance.now() + session.timeoutMs;
    this.begin();
  }

  begin() {
    this.answers = new Array(this.tokens.length);
    this.next = 0;
    this.unanswered = 0;
  }

  /** Nobody need be asked about this one. */
  setMalformed(index) {
    this.answers[index] = Answer.malformed();
  }
}
