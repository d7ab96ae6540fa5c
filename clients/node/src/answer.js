// What the daemon answered about one token.

import { VALID, VERDICTS } from "./wire.js";

const NO_SCOPES = Object.freeze([]);
const NO_CLAIMS = { kind: null, audience: null, scopes: NO_SCOPES, subject: null, meta: null };
const NO_ROW = { verdict: VERDICTS.indexOf("malformed"), tokenId: null, expires: null };
const NO_EVIDENCE = { generation: null, epoch: null, revocations: null, age: null, stale: false };

/** Its fields are described in index.d.ts. None of them holds a token. */
export class Answer {
  constructor(row, evidence, claims) {
    this.valid = row.verdict === VALID;
    this.verdict = VERDICTS[row.verdict];
    this.tokenId = row.tokenId;
    const known = claims ?? NO_CLAIMS;
    this.kind = known.kind;
    this.subject = known.subject;
    this.audience = known.audience;
    this.scopes = known.scopes;
    this.meta = known.meta;
    this.expires = row.expires === null ? null : new Date(row.expires * 1000);
    this.generation = evidence.generation;
    this.epoch = evidence.epoch;
    this.revocations = evidence.revocations;
    this.age = evidence.age;
    this.stale = evidence.stale;
  }

  /** The answer about a text that is no token, for which nobody has to be asked. */
  static malformed() {
    return new Answer(NO_ROW, NO_EVIDENCE, null);
  }
}
