import type { IncomingMessage, ServerResponse } from "node:http";

import type { Client, Need, Unavailable, Valid } from "./index.js";

export interface RequireTokenOptions extends Need {
  /** Default: one client of the default socket, which all middleware of this process share. */
  client?: Client;
  /** Is told why the daemon could not be asked. Default: its message goes to `console.error`. */
  onUnavailable?: (error: Unavailable, req: IncomingMessage) => void;
}

/**
 * Lets only requests with a valid bearer token through. `req.adamant` is then the answer. Else it
 * responds with 400, 401, 403 or 503 (RFC 6750).
 */
export function requireToken(
  options?: RequireTokenOptions,
): (req: IncomingMessage, res: ServerResponse, next: (err?: unknown) => void) => void;

declare global {
  namespace Express {
    interface Request {
      /** Behind `requireToken`: what is known of the token. */
      adamant?: Valid;
    }
  }
}
