import type { Client, ClientOptions } from "./index.js";

/** What a test says of a token. */
export interface FakeClaims {
  /** Default: `live`. */
  kind?: string;
  subject?: string;
  audience?: string;
  scopes?: readonly string[];
  meta?: string;
  expires?: Date;
}

/** A daemon for the tests of a service: real frames at a real socket, and made-up tokens. */
export class FakeDaemon {
  private constructor();
  /** A daemon at a socket of its own, in a temporary folder. */
  static listen(): Promise<FakeDaemon>;
  /** Where it listens: a value for `ADAMANT_SOCKET`. */
  readonly socket: string;
  /** A client of it. */
  client(options?: Omit<ClientOptions, "socket">): Client;
  /** From now on `token`, any text, is valid and has these claims. Gives its id. */
  trust(token: string, claims?: FakeClaims): string;
  /** From now on `token` is revoked. */
  revoke(token: string): void;
  /** Whether there is a generation to answer from. */
  setAvailable(isAvailable: boolean): void;
  close(): Promise<void>;
}
