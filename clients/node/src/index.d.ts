/// <reference types="node" />

/** What a token must have. What is not named is not checked. */
export interface Need {
  kind?: string;
  audience?: string;
  /** One scope that it must have. */
  scope?: string;
  /** Scopes that it must have, all of them. */
  scopes?: readonly string[];
  /**
   * Whether the answer has kind, audience, scopes, subject and meta. Default: true. Without them
   * the daemon's reply is shorter, and a frame has room for 1,024 tokens instead of 64.
   */
  claims?: boolean;
}

export interface ClientOptions {
  /** Where the daemon listens. Default: `ADAMANT_SOCKET`, or `/run/adamant/adamant.sock`. */
  socket?: string;
  /** How long a call may take as a whole, connecting included. Default: 50. */
  timeoutMs?: number;
  /**
   * "digests": tokens are hashed here, and the daemon never sees one; this needs the package
   * `@noble/hashes`. "tokens": they are sent. Default: digests, if the package is installed.
   */
  as?: "digests" | "tokens";
}

/** A 64-bit number: a BigInt only where a number cannot hold it. `<` and `===` work as they should. */
export type Integer = number | bigint;

export type Denial =
  | "malformed"
  | "unknown"
  | "caller_not_allowed"
  | "revoked"
  | "not_yet_valid"
  | "expired"
  | "wrong_kind"
  | "wrong_audience"
  | "insufficient_scope";

interface Known {
  /** What the token is for; null without claims. */
  readonly kind: string | null;
  /** Who it is for; null if nobody was named, without claims, or if the host does not know. */
  readonly subject: string | null;
  /** Who may accept it; null if nobody was named, or without claims. */
  readonly audience: string | null;
  /** What it may do; empty without claims. */
  readonly scopes: readonly string[];
  /** The note that it was issued with; as `subject`. */
  readonly meta: string | null;
  /** When it expires; null: never. */
  readonly expires: Date | null;
  /** The manifest has expired, and the daemon's policy says to serve it nevertheless. */
  readonly stale: boolean;
}

/** The token is trusted now and has all that was asked for. */
export interface Valid extends Known {
  readonly valid: true;
  readonly verdict: "valid";
  /** Its public name: what logs and rate limits should call it by. */
  readonly tokenId: string;
  /** The generation, epoch and revocations that the answer comes from. */
  readonly generation: Integer;
  readonly epoch: Integer;
  readonly revocations: Integer;
  /** Seconds since the manifest of the generation was issued. */
  readonly age: number;
}

/** It is not, or has not. */
export interface Denied extends Known {
  readonly valid: false;
  readonly verdict: Denial;
  /** Its public name, if there is such a token and this caller may know of it. */
  readonly tokenId: string | null;
  /** As in `Valid`; null if the text is no token, and so nobody was asked. */
  readonly generation: Integer | null;
  readonly epoch: Integer | null;
  readonly revocations: Integer | null;
  readonly age: number | null;
}

export type Answer = Valid | Denied;

/**
 * Asks a daemon whether tokens are valid. One connection, which many calls share; it is opened when
 * it is needed, and keeps no process alive.
 */
export class Client {
  constructor(options?: ClientOptions);
  /** @throws {Unavailable} if there is no answer: that says nothing about the token. */
  verify(token: string | Uint8Array, need?: Need): Promise<Answer>;
  /** One answer for each token, in order. They may be of several generations. */
  verifyMany(tokens: Iterable<string | Uint8Array>, need?: Need): Promise<Answer[]>;
  /** Closes the connection. Calls that are under way fail. */
  close(): void;
}

export type UnavailableReason =
  "connect" | "closed" | "timeout" | "no_generation" | "refused" | "protocol" | "went_back";

/** There is no answer. Fail closed: it says nothing about the token. */
export class Unavailable extends Error {
  private constructor();
  readonly name: "Unavailable";
  readonly reason: UnavailableReason;
  /** What the daemon said, if the reason is `refused`. */
  readonly refusal: { number: number; name: string; text: string } | null;
}

/** What a request that changes something may carry. */
export interface Origin {
  /** Makes it safe to ask again: 1 to 255 bytes that are never used for another request. */
  requestId?: string;
  onBehalfOf?: string;
  ticket?: string;
}

/** A time; or RFC 3339; or a span from now on, such as `90d`, `12h`, `30m`, `20s`. */
export type TimeOrSpan = Date | string;

export interface Wanted extends Origin {
  /** The sort of token, such as `live` or `test`. */
  kind: string;
  subject?: string;
  audience?: string;
  scopes?: readonly string[];
  meta?: string;
  notBefore?: Date | string;
  expires?: TimeOrSpan;
}

/** A token that was just issued. Neither `util.inspect` nor JSON shows the token itself. */
export interface Issued {
  /** The token: hand it to its owner and to nobody else. It is told once. */
  readonly token: string;
  readonly id: string;
  /** The token that it follows, after `rotate`. */
  readonly predecessor: string | null;
  /** Number of the event in the ledger. */
  readonly event: number;
  readonly generation: number | null;
  /** The local daemon serves a generation that has it. If not, it will soon. */
  readonly served: boolean;
  readonly expires: Date | null;
}

export interface TokenRecord {
  readonly id: string;
  readonly state: "valid" | "revoked" | "expired" | "not_yet_valid";
  readonly kind: string;
  readonly audience: string | null;
  readonly scopes: readonly string[];
  readonly subject: string | null;
  readonly meta: string | null;
  readonly issued: Date;
  readonly notBefore: Date | null;
  readonly expires: Date | null;
  readonly revokedAt: Date | null;
  readonly reason: string | null;
  readonly predecessor: string | null;
  readonly successor: string | null;
  readonly event: number;
}

export interface Revoked {
  readonly id: string;
  readonly event: number;
  /** It was revoked before, which is no error. */
  readonly already: boolean;
  readonly generation: number | null;
  /** The local daemon answers `revoked`. */
  readonly served: boolean;
}

export interface History {
  readonly id: string;
  readonly checkpoint: string;
  readonly events: readonly {
    readonly index: number;
    readonly event: unknown;
    readonly proof: string;
  }[];
}

export interface IssuerOptions {
  /** Default: `ADAMANT_ISSUER_SOCKET`, or `/run/adamant-issuer/issuer.sock`. */
  socket?: string;
  /** How long a request may take. Default: 10,000. */
  timeoutMs?: number;
}

/** Issues, revokes and rotates tokens. All of it fails with `IssuerError` or `Unavailable`. */
export class Issuer {
  constructor(options?: IssuerOptions);
  issue(wanted: Wanted): Promise<Issued>;
  get(id: string): Promise<TokenRecord>;
  /** All tokens, or those of one subject; fetched a page at a time. */
  list(filter?: {
    subject?: string;
    pageSize?: number;
  }): AsyncGenerator<TokenRecord, void, undefined>;
  revoke(id: string, how?: { reason?: string; at?: Date | string } & Origin): Promise<Revoked>;
  /** A new token with the same claims. The old one dies now, or after `overlap`, such as `24h`. */
  rotate(id: string, how?: { overlap?: string; expires?: TimeOrSpan } & Origin): Promise<Issued>;
  /** The events of a token, with their proofs. */
  history(id: string): Promise<History>;
  /** Closes the connections. */
  close(): void;
}

export type IssuerErrorCode =
  | "invalid_request"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "repeated"
  | "dead"
  | "too_large"
  | "unsupported_media_type"
  | "busy"
  | "internal";

/** The issuing service answered that it will not. */
export class IssuerError extends Error {
  private constructor();
  readonly name: "IssuerError";
  readonly code: IssuerErrorCode;
  readonly status: number;
  /** All that it said (RFC 9457): `id` and `event` too, with `repeated` and `dead`. */
  readonly problem: {
    readonly title?: string;
    readonly detail?: string;
    readonly code: IssuerErrorCode;
    readonly id?: string;
    readonly event?: number;
  };
  /** When to ask again, in seconds, if it said so. */
  readonly retryAfterS: number | null;
}
