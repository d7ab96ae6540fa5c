// The fake that users test with, and through it all that only a daemon with imports shows.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";

import { Unavailable } from "adamant-client";
import { FakeDaemon } from "adamant-client/testing";

import { withoutBlake3 } from "./support/need.js";

const blake3Missing = await withoutBlake3();

for (const as of ["digests", "tokens"]) {
  test(
    `the fake gives all verdicts about ${as}`,
    { skip: as === "digests" && blake3Missing },
    async (t) => {
      const fake = await FakeDaemon.listen();
      t.after(() => fake.close());
      const client = fake.client({ as, timeoutMs: 5000 });
      const expires = new Date("2100-01-01T00:00:00Z");
      const id = fake.trust("any text", {
        subject: "s",
        audience: "api",
        scopes: ["b", "a"],
        expires,
      });
      fake.trust("old", { expires: new Date("2021-01-01T00:00:00Z") });

      const answer = await client.verify("any text", { kind: "live", audience: "api", scope: "a" });
      const { generation, ...rest } = answer;
      assert.deepEqual(rest, {
        valid: true,
        verdict: "valid",
        tokenId: id,
        kind: "live",
        subject: "s",
        audience: "api",
        scopes: ["a", "b"],
        meta: null,
        expires,
        epoch: 1,
        revocations: 0,
        age: 0,
        stale: false,
      });
      const verdict = async (token, need) => (await client.verify(token, need)).verdict;
      assert.equal(await verdict("another text"), "unknown");
      assert.equal(await verdict("old"), "expired");
      assert.equal(await verdict("any text", { kind: "test" }), "wrong_kind");
      assert.equal(await verdict("old", { audience: "api" }), "expired");
      assert.equal(await verdict("any text", { audience: "mail" }), "wrong_audience");
      assert.equal(await verdict("any text", { scopes: ["a", "c"] }), "insufficient_scope");
      fake.revoke("any text");
      const revoked = await client.verify("any text");
      assert.equal(revoked.verdict, "revoked");
      assert.ok(revoked.generation > generation);

      fake.setAvailable(false);
      const isUnavailable = (err) => err instanceof Unavailable && err.reason === "no_generation";
      await assert.rejects(client.verify("any text"), isUnavailable);
      await assert.rejects(fake.client({ as, timeoutMs: 5000 }).verify("any text"), isUnavailable);
      fake.setAvailable(true);
      assert.equal(await verdict("any text"), "revoked");
    },
  );
}

test("a fake that is closed leaves nothing, and cannot be asked", async () => {
  const fake = await FakeDaemon.listen();
  const client = fake.client();
  await client.verify("x").catch(() => {});
  await fake.close();
  assert.ok(!existsSync(fake.socket));
  await assert.rejects(client.verify("x"), (err) => err.reason === "connect");
});

test("a mistake in a test is told", async (t) => {
  const fake = await FakeDaemon.listen();
  t.after(() => fake.close());
  assert.throws(() => fake.revoke("x"), /never trusted/);
  assert.throws(() => fake.trust("x", { scope: "a" }), /has no scope/);
});
