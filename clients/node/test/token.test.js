// From texts to digests, by the vectors that all implementations share.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Domain, MALFORMED, NOT_YET, loadingBlake3 } from "../src/token.js";
import { withoutBlake3 } from "./support/need.js";

const skip = await withoutBlake3();
const vectors = JSON.parse(
  readFileSync(new URL("../../../tests/vectors/token.json", import.meta.url)),
);
const blake3 = await loadingBlake3;

function domain(prefix, foreign = []) {
  return new Domain(blake3, {
    key: Uint8Array.from(Buffer.from(vectors.hash_key_hex, "hex")),
    prefix,
    foreign,
  });
}

function hex(digest) {
  return typeof digest === "symbol" ? digest : Buffer.from(digest).toString("hex");
}

test("well-formed tokens have the digests of the vectors, as text and as bytes", { skip }, () => {
  assert.ok(vectors.well_formed.length > 20);
  for (const { token, prefix, digest_hex: expected } of vectors.well_formed) {
    assert.equal(hex(domain(prefix).digest(token)), expected);
    assert.equal(hex(domain(prefix).digest(Buffer.from(token))), expected);
  }
});

test("the scheme is taken off once, in any case, and nothing else is", { skip }, () => {
  const { text, token } = vectors.uri_form;
  const ours = domain("acme");
  const expected = hex(ours.digest(token));
  assert.equal(hex(ours.digest(text)), expected);
  assert.equal(hex(ours.digest(text.replace("secret-token", "SECRET-Token"))), expected);
  for (const other of [
    `secret-token:${text}`,
    ` ${token}`,
    `secret\rtoken:${token}`,
    `secret-token;${token}`,
  ]) {
    assert.equal(ours.digest(other), NOT_YET);
  }
});

test("malformed texts have no digest, whatever was imported", { skip }, () => {
  for (const { why, text } of vectors.malformed) {
    const digest = domain("acme").digest(text);
    assert.ok(digest === MALFORMED || digest === NOT_YET, why);
  }
  const [{ token }] = vectors.well_formed.filter(({ prefix }) => prefix === "acme");
  const wrong = token.slice(0, -1) + (token.endsWith("0") ? "1" : "0");
  assert.equal(domain("acme", ["sha256"]).digest(wrong), MALFORMED);
});

test("a foreign text has the digest of the vectors once its algorithm is named", { skip }, () => {
  const { of_text: text, digest_hex: expected } = vectors.foreign;
  assert.equal(hex(domain("acme", ["sha256"]).digest(text)), expected);
  assert.equal(domain("acme").digest(text), NOT_YET);
});

test("a foreign text has 1 to 4096 bytes", { skip }, () => {
  const foreign = domain("acme", ["sha256"]);
  assert.equal(foreign.digest(""), MALFORMED);
  assert.equal(foreign.digest("a".repeat(4097)), MALFORMED);
  assert.equal(foreign.digest("é".repeat(2049)), MALFORMED);
  assert.equal(foreign.digest(Buffer.alloc(4097)), MALFORMED);
  assert.equal(hex(foreign.digest("a".repeat(4096))).length, 64);
  assert.equal(hex(foreign.digest(`secret-token:${"é".repeat(2048)}`)).length, 64);
});

test("imported tokens are hashed with the one known algorithm, or not at all", () => {
  assert.ok(Domain.canHash({ foreign: [] }));
  assert.ok(Domain.canHash({ foreign: ["sha256"] }));
  assert.ok(!Domain.canHash({ foreign: ["sha512"] }));
  assert.ok(!Domain.canHash({ foreign: ["sha256", "sha512"] }));
});
