// The client and a real daemon.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, cpSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Client, Unavailable } from "adamant-client";

import { Daemon } from "./support/daemon.js";
import { temporaryFolder } from "./support/folder.js";
import { withoutBlake3, withoutProgram } from "./support/need.js";

const run = promisify(execFile);
const skip = withoutProgram("adamant");
const blake3Missing = await withoutBlake3();
const HOUR_MS = 3_600_000;

/** A timeout that a busy host keeps: what is asked here is not how fast it is. */
function patient(daemon, options = {}) {
  return new Client({ socket: daemon.socket, timeoutMs: 5000, ...options });
}

describe("a real daemon", { skip }, () => {
  for (const as of ["digests", "tokens"]) {
    test(`answers about ${as}`, { skip: as === "digests" && blake3Missing }, (t) => answers(t, as));
  }

  test("answers many calls at once, each its own", async (t) => {
    const daemon = await Daemon.start(t);
    const issued = [1, 2, 3].map((n) => daemon.issue("--kind", "live", "--subject", `s${n}`));
    const client = patient(daemon);
    t.after(() => client.close());
    await daemon.answers(client, issued[2].token, "valid");
    const asked = Array.from({ length: 1000 }, (_, n) => client.verify(issued[n % 3].token));
    (await Promise.all(asked)).forEach((answer, n) =>
      assert.equal(answer.subject, `s${(n % 3) + 1}`),
    );
  });

  test("answers about more tokens than a frame has room for", async (t) => {
    const daemon = await Daemon.start(t);
    const { token, id } = daemon.issue("--kind", "live", "--scope", "a");
    const client = patient(daemon);
    t.after(() => client.close());
    await daemon.answers(client, token, "valid");
    // A real one in every seventh place, and texts that are no token in between.
    const tokens = Array.from({ length: 20_000 }, (_, n) =>
      n % 7 === 0 ? token : `${token}${n % 3}`,
    );
    for (const claims of [true, false]) {
      const all = await client.verifyMany(tokens, { claims });
      assert.equal(all.length, tokens.length);
      all.forEach((answer, n) => {
        assert.equal(answer.verdict, n % 7 === 0 ? "valid" : "malformed");
        assert.equal(answer.tokenId, n % 7 === 0 ? id : null);
        assert.deepEqual([...answer.scopes], claims && n % 7 === 0 ? ["a"] : []);
      });
    }
  });

  test("that was killed and started anew is asked again, without an error", async (t) => {
    const daemon = await Daemon.start(t);
    const { token } = daemon.issue("--kind", "live");
    const client = patient(daemon);
    t.after(() => client.close());
    await daemon.answers(client, token, "valid");
    for (let round = 0; round < 3; round += 1) {
      await daemon.kill();
      await assert.rejects(client.verify(token), (err) => {
        assert.ok(err instanceof Unavailable);
        assert.equal(err.reason, "connect");
        assert.match(err.message, /nobody listens at .*socket: start adamantd/);
        return true;
      });
      await daemon.serve();
      const answers = await Promise.all([client.verify(token), client.verify(token)]);
      assert.ok(answers.every(({ valid }) => valid));
    }
  });

  test("that is killed while it is asked gives no wrong answer", async (t) => {
    const daemon = await Daemon.start(t);
    const { token } = daemon.issue("--kind", "live");
    const client = patient(daemon);
    t.after(() => client.close());
    await daemon.answers(client, token, "valid");
    await daemon.pause();
    const asked = Array.from({ length: 50 }, () => client.verify(token).catch((err) => err));
    await new Promise(setImmediate);
    await daemon.kill();
    for (const outcome of await Promise.all(asked)) assert.ok(outcome instanceof Unavailable);
    await daemon.serve();
    assert.ok((await client.verify(token)).valid);
  });

  test("that is slow is a timeout, and its late reply answers nothing", async (t) => {
    const daemon = await Daemon.start(t);
    const [first, second] = [daemon.issue("--kind", "live"), daemon.issue("--kind", "live")];
    const client = new Client({ socket: daemon.socket });
    t.after(() => client.close());
    await daemon.answers(patient(daemon), second.token, "valid");
    assert.ok((await client.verify(first.token)).valid);
    await daemon.pause();
    const began = performance.now();
    await assert.rejects(client.verify(first.token), (err) => {
      assert.equal(err.reason, "timeout");
      assert.match(err.message, /within 50 ms/);
      return err instanceof Unavailable;
    });
    assert.ok(performance.now() - began >= 49);
    daemon.resume();
    const answer = await daemon.answers(patient(daemon), second.token, "valid");
    assert.equal((await client.verify(second.token)).tokenId, answer.tokenId);
  });

  test("has answered in time, though this process was too busy to look", async (t) => {
    const daemon = await Daemon.start(t);
    const { token } = daemon.issue("--kind", "live");
    const client = new Client({ socket: daemon.socket });
    t.after(() => client.close());
    await daemon.answers(patient(daemon), token, "valid");
    await client.verify(token);
    const asked = client.verify(token);
    await new Promise(setImmediate);
    const end = performance.now() + 200;
    while (performance.now() < end);
    assert.ok((await asked).valid);
  });

  test("that may not be asked says which group to join", async (t) => {
    const daemon = await Daemon.start(t);
    chmodSync(path.dirname(daemon.socket), 0o755);
    const script = `
      const { Client } = await import(${JSON.stringify(String(new URL("../src/index.js", import.meta.url)))});
      const client = new Client({ socket: ${JSON.stringify(daemon.socket)}, timeoutMs: 5000 });
      await client.verify("x").catch((err) => console.log(err.reason, err.message));`;
    // The superuser passes every permission: so another user asks. Others need only a closed socket.
    const isRoot = process.getuid() === 0;
    if (!isRoot) chmodSync(daemon.socket, 0);
    const user = isRoot ? { uid: 65534, gid: 65534 } : {};
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script], {
      ...user,
      cwd: "/",
    });
    assert.match(stdout, /^connect no permission to connect to .*socket: .* join the group \S+ /);
  });

  test("is handed the tokens where they cannot be hashed", async (t) => {
    const daemon = await Daemon.start(t);
    const { token } = daemon.issue("--kind", "live");
    await daemon.answers(patient(daemon), token, "valid");
    // A folder without any package beside it.
    const folder = temporaryFolder(t);
    writeFileSync(path.join(folder, "package.json"), '{"type":"module"}');
    cpSync(new URL("../src", import.meta.url), path.join(folder, "src"), { recursive: true });
    const script = `
      import { Client } from "./src/index.js";
      const options = { timeoutMs: 5000 };
      console.log((await new Client(options).verify(process.env.TOKEN)).verdict);
      const strict = new Client({ ...options, as: "digests" });
      await strict.verify(process.env.TOKEN).catch((err) => console.log(err.message));`;
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script], {
      cwd: folder,
      env: { ...process.env, ADAMANT_SOCKET: daemon.socket, TOKEN: token },
    });
    assert.match(stdout, /^valid\nthis client cannot hash tokens .*: install @noble\/hashes/);
  });

  test("does not keep a process alive that has its answer", async (t) => {
    const daemon = await Daemon.start(t);
    const script = `
      import { Client } from "adamant-client";
      const client = new Client({ timeoutMs: 5000 });
      console.log((await client.verify("nonsense")).verdict);`;
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script], {
      cwd: fileURLToPath(new URL("..", import.meta.url)),
      env: { ...process.env, ADAMANT_SOCKET: daemon.socket },
      timeout: 20_000,
    });
    assert.equal(stdout, "malformed\n");
  });
});

async function answers(t, as) {
  const daemon = await Daemon.start(t);
  const rights = [
    "--subject",
    "customer-42",
    "--audience",
    "api",
    "--scope",
    "b:x",
    "--scope",
    "a:x",
  ];
  const issued = daemon.issue("--kind", "live", ...rights, "--meta", "a note", "--expires", "90d");
  const plain = daemon.issue("--kind", "test");
  const client = patient(daemon, { as });
  t.after(() => client.close());

  const valid = await daemon.answers(client, plain.token, "valid");
  assert.deepEqual(
    [valid.expires, valid.subject, valid.audience, valid.kind],
    [null, null, null, "test"],
  );

  const answer = await client.verify(issued.token, {
    kind: "live",
    audience: "api",
    scopes: ["a:x"],
  });
  const { expires, age, generation, revocations, ...rest } = answer;
  assert.deepEqual(rest, {
    valid: true,
    verdict: "valid",
    tokenId: issued.id,
    kind: "live",
    subject: "customer-42",
    audience: "api",
    scopes: ["a:x", "b:x"],
    meta: "a note",
    epoch: 1,
    stale: false,
  });
  const ahead = expires.getTime() - Date.now();
  assert.ok(Math.abs(ahead - 90 * 24 * HOUR_MS) < HOUR_MS);
  assert.ok(generation >= plain.generation && age < 3600 && revocations >= 0);

  const verdict = async (token, need) => (await client.verify(token, need)).verdict;
  assert.equal(await verdict(issued.token, { kind: "test" }), "wrong_kind");
  assert.equal(await verdict(issued.token, { audience: "other" }), "wrong_audience");
  assert.equal(await verdict(issued.token, { scopes: ["a:x", "c:x"] }), "insufficient_scope");
  assert.equal(await verdict(`secret-token:${issued.token}`), "valid");
  assert.equal(await verdict(Buffer.from(issued.token)), "valid");
  assert.equal(await verdict(`${issued.token.slice(0, -1)}!`), "malformed");
  for (const text of ["", "nonsense", "x".repeat(5000)])
    assert.equal(await verdict(text), "malformed");

  const withoutClaims = await client.verify(issued.token, { claims: false });
  assert.deepEqual([withoutClaims.tokenId, withoutClaims.subject], [issued.id, null]);

  daemon.revoke(issued.id);
  const revoked = await daemon.answers(client, issued.token, "revoked");
  assert.equal(revoked.valid, false);
  assert.equal(revoked.tokenId, issued.id);
  assert.ok(revoked.generation > generation || revoked.revocations > revocations);
}
