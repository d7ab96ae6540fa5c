// Why there is no answer.

import { readFileSync, statSync } from "node:fs";

/**
 * The question was not answered, which says nothing about the token: fail closed.
 *
 * `reason` is for programs: `connect`, `closed`, `timeout`, `no_generation`, `refused`, `protocol`
 * or `went_back`. The message is for the operator: what, where, what to do.
 */
export class Unavailable extends Error {
  constructor(reason, message, { cause, refusal = null } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
    /** The ERROR reply of the daemon, `{ number, name, text }`, where that was the reason. */
    this.refusal = refusal;
  }

  get name() {
    return "Unavailable";
  }
}

/** What the messages name of a service at a socket. */
export const DAEMON = {
  name: "adamantd",
  variable: "ADAMANT_SOCKET",
  group: "adamant-clients",
};
export const ISSUER = {
  name: "adamant-issuer",
  variable: "ADAMANT_ISSUER_SOCKET",
  group: "of the socket",
};

/** Nobody could be reached at the socket. */
export function unreachable(service, socket, cause) {
  return new Unavailable("connect", reachAdvice(service, socket, cause.code), { cause });
}

function reachAdvice(service, socket, code) {
  if (code === "ENOENT" || code === "ECONNREFUSED") {
    return `nobody listens at ${socket}: start ${service.name}, or name its socket in ${service.variable}`;
  }
  if (code === "EACCES" || code === "EPERM") {
    const group = groupOf(socket) ?? service.group;
    return `no permission to connect to ${socket}: let this process join the group ${group} and start it anew`;
  }
  return `cannot connect to ${service.name} at ${socket} (${code}): see its log`;
}

/** The name of the group that a socket belongs to, where that can be known. */
function groupOf(socket) {
  try {
    const { gid } = statSync(socket);
    const lines = readFileSync("/etc/group", "utf8").split("\n");
    return lines.map((line) => line.split(":")).find((fields) => fields[2] === String(gid))?.[0];
  } catch {
    return undefined;
  }
}

export function timedOut(socket, timeoutMs) {
  return new Unavailable(
    "timeout",
    `no answer from ${socket} within ${timeoutMs} ms: see the load of this host and \`adamant status\``,
  );
}

export function broken(socket, cause) {
  return new Unavailable(
    "closed",
    `the connection to ${socket} broke: see whether adamantd runs, and its log`,
    { cause },
  );
}

export function closedByUs(socket) {
  return new Unavailable("closed", `this client of ${socket} was closed: make a new one`);
}

export function noGeneration(socket) {
  return new Unavailable(
    "no_generation",
    `the daemon at ${socket} has no generation that it may answer from: see \`adamant status\``,
  );
}

export function refused(socket, refusal) {
  return new Unavailable(
    "refused",
    `the daemon at ${socket} does not answer this (${refusal.name}): ${refusal.text}`,
    { refusal },
  );
}

export function unreadable(socket, cause) {
  return new Unavailable(
    "protocol",
    `what came from ${socket} cannot be read: see what listens there, and its version`,
    { cause },
  );
}

export function wentBack(socket, found, seen) {
  const text = (order) => `${order.epoch}.${order.generation}.${order.revocations}`;
  return new Unavailable(
    "went_back",
    `the daemon at ${socket} answers from ${text(found)} after ${text(seen)}: ` +
      "somebody put back an old state, or two daemons take turns there",
  );
}

export function cannotHash() {
  return new Unavailable(
    "protocol",
    "this client cannot hash tokens as the daemon does: install @noble/hashes, or leave out `as`",
  );
}
