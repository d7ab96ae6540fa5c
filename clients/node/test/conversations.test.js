// The recorded conversations that all clients share: the client sends just the recorded bytes, and
// makes of the recorded reply what was meant.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { Client, Unavailable } from "adamant-client";

import { withoutBlake3 } from "./support/need.js";
import { bytes, replay } from "./support/replay.js";

const folder = new URL("../../conversations/", import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
const blake3Missing = await withoutBlake3();

test("there are conversations", () => assert.notEqual(names.length, 0));

for (const name of names) {
  const conversation = JSON.parse(readFileSync(new URL(name, folder)));
  const skip = conversation.call.as === "digests" && blake3Missing;
  test(`${name}: ${conversation.about}`, { skip }, (t) => hold(t, conversation));
}

async function hold(t, { hello, call, request, reply, evidence, answers, error }) {
  const steps = [
    [hello.request, hello.reply],
    [request, reply],
  ];
  const script = steps.filter(([asked]) => asked !== null).map((step) => step.map(orBytes));
  const played = await replay(t, script);
  const client = new Client({ socket: played.socket, as: call.as, timeoutMs: 2000 });
  t.after(() => client.close());

  const asked = client.verifyMany(call.tokens, needOf(call));
  const isUnanswered =
    error !== undefined || answers.some(({ verdict }) => verdict === "unavailable");
  if (isUnanswered) await assert.rejects(asked, (err) => isRight(err, error));
  else (await asked).forEach((answer, index) => compare(answer, answers[index], evidence));
  if (answers !== undefined && !isUnanswered) assert.equal((await asked).length, answers.length);

  assert.equal(played.connections, 1);
  const sent = script.map(([asked]) => asked.toString("hex")).join("");
  assert.equal(played.received[0].toString("hex"), sent);
}

function orBytes(hex) {
  return hex === null ? null : bytes(hex);
}

function needOf({ kind, audience, scopes, claims }) {
  const optional = Object.entries({ kind, audience }).filter(([, text]) => text !== null);
  return { ...Object.fromEntries(optional), scopes, claims };
}

function isRight(err, error) {
  assert.ok(err instanceof Unavailable, String(err));
  if (error === undefined) assert.equal(err.reason, "no_generation");
  else assert.deepEqual([err.refusal.number, err.refusal.name], [error.number, error.name]);
  return true;
}

function compare(answer, expected, evidence) {
  assert.equal(answer.valid, expected.verdict === "valid");
  assert.equal(answer.verdict, expected.verdict);
  assert.equal(answer.tokenId, expected.id);
  assert.equal(answer.expires === null ? null : answer.expires.getTime() / 1000, expected.expires);
  for (const field of ["kind", "audience", "subject", "meta"]) {
    assert.equal(answer[field], expected[field] || null, field);
  }
  assert.deepEqual([...answer.scopes], expected.scopes ?? []);
  // A text that is no token was answered here, from no generation.
  if (answer.generation === null) return assert.equal(answer.verdict, "malformed");
  for (const [field, value] of Object.entries(evidence)) assert.equal(answer[field], value, field);
}
