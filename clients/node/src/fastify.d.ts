import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from "fastify";

import type { Client, Need, Unavailable, Valid } from "./index.js";

export interface RequireTokenOptions extends Need {
  /** Default: one client of the default socket, which all hooks of this process share. */
  client?: Client;
  /** Is told why the daemon could not be asked. Default: its message goes to `request.log`. */
  onUnavailable?: (error: Unavailable, request: FastifyRequest) => void;
}

/**
 * A hook (`onRequest` or `preHandler`) that lets only requests with a valid bearer token through.
 * `request.adamant` is then the answer. Else it replies with 400, 401, 403 or 503 (RFC 6750).
 */
export function requireToken(
  options?: RequireTokenOptions,
): (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** A plugin that requires a token of all routes of the scope that it is registered in. */
declare const adamant: FastifyPluginAsync<RequireTokenOptions>;
export default adamant;

declare module "fastify" {
  interface FastifyRequest {
    /** Behind `requireToken`: what is known of the token. */
    adamant: Valid | null;
  }
}
