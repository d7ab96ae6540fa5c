// A hook and a plugin for Fastify.

import { Gate } from "./gate.js";

/** A hook for one route: `{ onRequest: requireToken({ scope: "orders:read" }) }`. */
export function requireToken(options = {}) {
  const gate = new Gate(options, (error, request) => request.log.error(error.message));
  return async function requireToken(request, reply) {
    const { answer, refusal } = await gate.judge(request.raw.rawHeaders, request);
    if (refusal !== undefined) return reply.code(refusal.status).headers(refusal.headers).send();
    request.adamant = answer;
  };
}

/** Requires a token of all routes of the scope that it is registered in. */
export default async function adamant(scope, options) {
  if (!scope.hasRequestDecorator("adamant")) scope.decorateRequest("adamant", null);
  scope.addHook("onRequest", requireToken(options));
}

// The hook is for the scope that registers, not for one of its own without routes.
adamant[Symbol.for("skip-override")] = true;
