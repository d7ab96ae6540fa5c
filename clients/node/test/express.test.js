// Express with a real server and a real daemon.

import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { describe, test } from "node:test";

import { Client } from "adamant-client";
import { requireToken } from "adamant-client/express";

import { Daemon } from "./support/daemon.js";
import { holdOrders } from "./support/http.js";
import { withoutPackage, withoutProgram } from "./support/need.js";

const skip = (await withoutPackage("express")) || withoutProgram("adamant");

describe("Express", { skip }, () => {
  test("lets a valid token through, and says of all others why not", async (t) => {
    const daemon = await Daemon.start(t);
    const { origin, reports } = await serve(t, daemon);
    await holdOrders(daemon, origin, reports);
  });
});

test("a middleware that would not check what was meant is refused", () => {
  assert.throws(() => requireToken({ scope: undefined }), /scope is undefined/);
  assert.throws(() => requireToken({ role: "admin" }), /has no role/);
  assert.throws(() => requireToken({ scope: 'a"b' }), /visible ASCII/);
});

async function serve(t, daemon) {
  const { default: express } = await import("express");
  const reports = [];
  const client = new Client({ socket: daemon.socket, timeoutMs: 5000 });
  const onUnavailable = (error, req) => reports.push([error, req.url]);
  const need = { scope: "orders:read", audience: "api", client, onUnavailable };
  const app = express();
  app.get("/orders", requireToken(need), (req, res) => {
    res.json({ id: req.adamant.tokenId, subject: req.adamant.subject });
  });
  const server = http.createServer(app).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    client.close();
    server.closeAllConnections();
    server.close();
  });
  return { origin: server.address(), reports };
}
