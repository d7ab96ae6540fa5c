// Fastify with a real server and a real daemon: the plugin, and the hook of one route.

import { describe, test } from "node:test";

import { Client } from "adamant-client";
import adamant, { requireToken } from "adamant-client/fastify";

import { Daemon } from "./support/daemon.js";
import { holdOrders } from "./support/http.js";
import { withoutPackage, withoutProgram } from "./support/need.js";

const skip = (await withoutPackage("fastify")) || withoutProgram("adamant");

const orders = async ({ adamant: answer }) => ({ id: answer.tokenId, subject: answer.subject });

/** How a route gets its requirement. */
const WAYS = {
  "the plugin": (app, need) =>
    app.register(async (scope) => {
      scope.register(adamant, need);
      scope.get("/orders", orders);
    }),
  "an onRequest hook": (app, need) => app.get("/orders", { onRequest: requireToken(need) }, orders),
  "a preHandler": (app, need) => app.get("/orders", { preHandler: requireToken(need) }, orders),
};

describe("Fastify", { skip }, () => {
  for (const [name, add] of Object.entries(WAYS)) {
    test(`${name} lets a valid token through, and says of all others why not`, async (t) => {
      const daemon = await Daemon.start(t);
      const { origin, reports } = await serve(t, daemon, add);
      await holdOrders(daemon, origin, reports);
    });
  }
});

async function serve(t, daemon, add) {
  const { fastify } = await import("fastify");
  const reports = [];
  const client = new Client({ socket: daemon.socket, timeoutMs: 5000 });
  const onUnavailable = (error, request) => reports.push([error, request.url]);
  const app = fastify();
  add(app, { scope: "orders:read", audience: "api", client, onUnavailable });
  app.get("/health", async () => "no token needed");
  await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(() => {
    client.close();
    return app.close();
  });
  return { origin: app.server.address(), reports };
}
