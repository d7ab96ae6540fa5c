// The example as a user runs it, with a real daemon and the real issuing service.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, symlinkSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Daemon } from "./support/daemon.js";
import { temporaryFolder } from "./support/folder.js";
import { withoutPackage, withoutProgram } from "./support/need.js";

const skip =
  (await withoutPackage("express")) ||
  withoutProgram("adamant") ||
  withoutProgram("adamant-issuer");
const here = fileURLToPath(new URL("..", import.meta.url));
const source = fileURLToPath(new URL("../../../examples/node/express_app.mjs", import.meta.url));

describe("the Express example", { skip }, () => {
  test("makes, checks and revokes keys, and makes none for anybody", async (t) => {
    const daemon = await Daemon.start(t);
    const origin = await start(t, daemon, await daemon.serveIssuer(t));
    const call = (method, at, headers = {}, body = undefined) =>
      fetch(origin + at, { method, headers, body });
    const admin = { "X-Admin-Secret": "open sesame", "Content-Type": "application/json" };
    const wanted = JSON.stringify({ customer: "customer-42" });

    assert.equal(
      (await call("POST", "/keys", { "Content-Type": "application/json" }, wanted)).status,
      401,
    );
    assert.equal(
      (await call("POST", "/keys", { ...admin, "X-Admin-Secret": "x" }, wanted)).status,
      401,
    );
    assert.equal((await call("POST", "/keys", admin, "{}")).status, 400);
    assert.equal((await call("POST", "/keys", admin, "{")).status, 400);
    const created = await call("POST", "/keys", admin, wanted);
    assert.equal(created.status, 201);
    const { key, id } = await created.json();
    assert.ok(key.startsWith(`acme_live_1${id}`));

    assert.equal((await call("GET", "/orders")).status, 401);
    const orders = await call("GET", "/orders", { Authorization: `Bearer ${key}` });
    assert.deepEqual(await orders.json(), { customer: "customer-42", orders: [] });

    assert.equal((await call("DELETE", `/keys/${id}`)).status, 401);
    assert.equal((await call("DELETE", "/keys/00000000000000", admin)).status, 404);
    assert.equal((await call("DELETE", `/keys/${id}`, admin)).status, 204);
    assert.equal((await call("GET", "/orders", { Authorization: `Bearer ${key}` })).status, 401);
  });

  test("does not start without a secret", async (t) => {
    const app = run(t, {});
    assert.deepEqual(await once(app, "exit"), [64, null]);
  });
});

async function start(t, daemon, issuer) {
  const app = run(t, {
    ADMIN_SECRET: "open sesame",
    PORT: "0",
    ADAMANT_SOCKET: daemon.socket,
    ADAMANT_ISSUER_SOCKET: issuer,
  });
  const [line] = await once(app.stdout.setEncoding("utf8"), "data");
  return /http:\S+/.exec(line)[0];
}

/** Runs a copy in a folder of its own, where the packages are those of `npm install`. */
function run(t, env) {
  const folder = temporaryFolder(t);
  mkdirSync(path.join(folder, "node_modules"));
  symlinkSync(here, path.join(folder, "node_modules", "adamant-client"));
  symlinkSync(
    path.join(here, "node_modules", "express"),
    path.join(folder, "node_modules", "express"),
  );
  copyFileSync(source, path.join(folder, "express_app.mjs"));
  const app = spawn(process.execPath, ["express_app.mjs"], {
    cwd: folder,
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "ignore"],
  });
  t.after(() => app.kill("SIGKILL"));
  return app;
}
