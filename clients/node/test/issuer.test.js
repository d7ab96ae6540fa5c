// The client of the issuing service: what it asks and what it makes of the contract's responses;
// and the same with the real service, where it is there.

import assert from "node:assert/strict";
import net from "node:net";
import path from "node:path";
import { describe, test } from "node:test";
import { inspect } from "node:util";

import { Client, Issuer, IssuerError, Unavailable } from "adamant-client";

import { contract } from "./support/contract.js";
import { Daemon } from "./support/daemon.js";
import { temporaryFolder } from "./support/folder.js";
import { withoutProgram } from "./support/need.js";

const TOKEN = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";
const ID = "V6T2UmxQamt62t";
const ISSUED = {
  token: TOKEN,
  id: ID,
  event: 17,
  generation: 9,
  served: true,
  expires: "2027-01-31T12:00:00Z",
};
const RECORD = {
  id: ID,
  state: "valid",
  kind: "live",
  audience: "api",
  scopes: ["orders:read"],
  subject: "customer-42",
  meta: null,
  issued: "2026-11-28T00:00:00Z",
  not_before: null,
  expires: "2027-01-31T12:00:00Z",
  revoked_at: null,
  reason: null,
  predecessor: null,
  successor: null,
  event: 17,
};

function issuerOf(t, served, options = {}) {
  const issuer = new Issuer({ socket: served.socket, ...options });
  t.after(() => issuer.close());
  return issuer;
}

test("issue asks what was wanted, and nothing that shows the result shows the token", async (t) => {
  const served = await contract(t, [201, ISSUED]);
  const issued = await issuerOf(t, served).issue({
    kind: "live",
    subject: "customer-42",
    scopes: ["orders:read"],
    notBefore: new Date("2026-12-01T00:00:00.999Z"),
    expires: "90d",
    requestId: "r1",
    onBehalfOf: "ada",
    ticket: "T-1",
  });
  const [{ method, url, headers, body }] = served.requests;
  assert.deepEqual([method, url, headers["content-type"]], ["POST", "/tokens", "application/json"]);
  assert.deepEqual(JSON.parse(body), {
    kind: "live",
    subject: "customer-42",
    scopes: ["orders:read"],
    not_before: "2026-12-01T00:00:00Z",
    expires: "90d",
    request_id: "r1",
    on_behalf_of: "ada",
    ticket: "T-1",
  });
  assert.equal(issued.token, TOKEN);
  const { id, event, generation, served: isServed, expires, predecessor } = issued;
  assert.deepEqual([id, event, generation, isServed, predecessor], [ID, 17, 9, true, null]);
  assert.equal(expires.toISOString(), "2027-01-31T12:00:00.000Z");
  const secret = TOKEN.slice(11 + ID.length);
  const shown = [inspect(issued, { showHidden: true }), JSON.stringify(issued), String(issued)];
  for (const text of [...shown, inspect({ ...issued })]) assert.ok(!text.includes(secret), text);
});

test("what would make another token than was meant is refused", async (t) => {
  const issuer = issuerOf(t, await contract(t));
  await assert.rejects(issuer.issue({ kind: "live", expire: "90d" }), /has no expire/);
  await assert.rejects(issuer.issue({ kind: "live", expires: undefined }), /expires is undefined/);
  await assert.rejects(issuer.rotate(ID, { overlapp: "1h" }), /has no overlapp/);
  await assert.rejects(issuer.revoke(""), /an id is a text/);
  await assert.rejects(issuer.get(undefined), /an id is a text/);
});

test("get gives the record with times as dates", async (t) => {
  const served = await contract(t, [200, RECORD]);
  const record = await issuerOf(t, served).get("../x?y");
  assert.equal(served.requests[0].url, "/tokens/..%2Fx%3Fy");
  const { not_before: notBefore, revoked_at: revokedAt, ...same } = RECORD;
  const dates = { issued: new Date(RECORD.issued), expires: new Date(RECORD.expires) };
  assert.deepEqual(record, { ...same, ...dates, notBefore, revokedAt });
});

test("list goes from page to page, on one connection", async (t) => {
  const pages = [
    {
      tokens: [
        { ...RECORD, event: 1 },
        { ...RECORD, event: 2 },
      ],
      next: "a b",
    },
    { tokens: [], next: "c" },
    { tokens: [{ ...RECORD, event: 3 }], next: null },
  ];
  const served = await contract(t, ...pages.map((page) => [200, page]));
  const events = [];
  const issuer = issuerOf(t, served);
  for await (const { event } of issuer.list({ subject: "a&b", pageSize: 2 })) events.push(event);
  assert.deepEqual(events, [1, 2, 3]);
  const query = "/tokens?subject=a%26b&limit=2";
  assert.deepEqual(
    served.requests.map(({ url }) => url),
    [query, `${query}&after=a+b`, `${query}&after=c`],
  );
  assert.equal(served.connections, 1);
});

test("revoke, rotate and history ask and tell what the contract says", async (t) => {
  const revoked = { id: ID, event: 18, already: false, generation: 10, served: true };
  const history = { id: ID, checkpoint: "c", events: [{ index: 17, event: {}, proof: "p" }] };
  const served = await contract(
    t,
    [200, revoked],
    [201, { ...ISSUED, predecessor: "OLD", expires: null }],
    [200, history],
  );
  const issuer = issuerOf(t, served);
  assert.deepEqual(await issuer.revoke(ID, { reason: "superseded" }), revoked);
  const rotated = await issuer.rotate(ID, { overlap: "24h" });
  assert.deepEqual([rotated.token, rotated.predecessor, rotated.expires], [TOKEN, "OLD", null]);
  assert.deepEqual(await issuer.history(ID), history);
  assert.deepEqual(
    served.requests.map(({ method, url, body }) => [method, url, body]),
    [
      ["POST", `/tokens/${ID}/revoke`, '{"reason":"superseded"}'],
      ["POST", `/tokens/${ID}/rotate`, '{"overlap":"24h"}'],
      ["GET", `/tokens/${ID}/history`, ""],
    ],
  );
});

test("a problem is an error with its code and all that was said", async (t) => {
  const repeated = {
    title: "Repeated",
    status: 409,
    detail: "d",
    code: "repeated",
    id: ID,
    event: 3,
  };
  const busy = { title: "Busy", status: 503, detail: "nothing was recorded", code: "busy" };
  const served = await contract(t, [409, repeated], [503, busy, { "Retry-After": "2" }]);
  const issuer = issuerOf(t, served);
  await assert.rejects(issuer.issue({ kind: "live" }), (err) => {
    assert.ok(err instanceof IssuerError);
    assert.deepEqual(
      [err.code, err.status, err.problem, err.retryAfterS],
      ["repeated", 409, repeated, null],
    );
    return true;
  });
  await assert.rejects(issuer.issue({ kind: "live" }), (err) => {
    assert.deepEqual([err.code, err.status, err.retryAfterS], ["busy", 503, 2]);
    return /nothing was recorded/.test(err.message);
  });
});

test("no answer says whether it may be asked again, and shows no token", async (t) => {
  const half = JSON.stringify(ISSUED).slice(0, -2);
  const served = await contract(t, [null], [null], ["never"], [201, half], [200, "null"]);
  const issuer = issuerOf(t, served, { timeoutMs: 100 });
  const fails = (call, reason, message) =>
    assert.rejects(call, (err) => {
      assert.ok(err instanceof Unavailable, inspect(err));
      assert.deepEqual([err.reason, inspect(err).includes(TOKEN)], [reason, false]);
      assert.match(err.message, message);
      return true;
    });
  await fails(issuer.get(ID), "closed", /broke: see the log of adamant-issuer/);
  await fails(issuer.revoke(ID), "closed", /not known: ask again with the same requestId/);
  await fails(issuer.issue({ kind: "live" }), "timeout", /within 100 ms: .* not known/);
  await fails(issuer.issue({ kind: "live" }), "protocol", /no reply of adamant-issuer/);
  await fails(issuer.get(ID), "protocol", /no reply of adamant-issuer/);
  const nobody = new Issuer({ socket: `${served.socket}.none` });
  await fails(nobody.get(ID), "connect", /nobody listens at .*none: start adamant-issuer/);
});

test("a response that is no HTTP is not shown", async (t) => {
  const socket = path.join(temporaryFolder(t), "issuer.sock");
  const server = net.createServer((connection) => {
    connection.once("data", () => connection.end(`${TOKEN}\r\n`));
  });
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => server.close());
  await assert.rejects(issuerOf(t, { socket }).issue({ kind: "live" }), (err) => {
    assert.equal(err.reason, "closed");
    assert.equal(err.cause.code, "HPE_INVALID_CONSTANT");
    const shown = inspect(err, { depth: Infinity, showHidden: true });
    return !shown.includes(Buffer.from(TOKEN.slice(0, 8)).toString("hex").match(/../g).join(" "));
  });
});

const skip = withoutProgram("adamant") || withoutProgram("adamant-issuer");

describe("the real issuing service", { skip }, () => {
  test("issues, lists, rotates and revokes, and the daemon sees it at once", async (t) => {
    const daemon = await Daemon.start(t);
    const issuer = new Issuer({ socket: await daemon.serveIssuer(t) });
    const client = new Client({ socket: daemon.socket, timeoutMs: 5000 });
    t.after(() => (issuer.close(), client.close()));

    const wanted = {
      kind: "live",
      subject: "customer-42",
      audience: "api",
      scopes: ["b", "a"],
      expires: "90d",
    };
    const first = await issuer.issue({ ...wanted, requestId: "r1" });
    assert.ok(first.token.startsWith(`acme_live_1${first.id}`));
    await daemon.answers(client, first.token, "valid", { audience: "api", scope: "a" });
    await assert.rejects(issuer.issue({ ...wanted, requestId: "r1" }), { code: "repeated" });

    const record = await issuer.get(first.id);
    assert.deepEqual(
      [record.state, record.kind, record.subject, record.audience, record.scopes],
      ["valid", "live", "customer-42", "api", ["a", "b"]],
    );
    assert.equal(record.expires.getTime(), first.expires.getTime());

    const second = await issuer.rotate(first.id, { overlap: "1h" });
    assert.equal(second.predecessor, first.id);
    await daemon.answers(client, second.token, "valid");
    assert.ok(
      (await client.verify(first.token)).valid,
      "the old one lives as long as they overlap",
    );

    const listed = [];
    for await (const { id } of issuer.list({ subject: "customer-42", pageSize: 1 }))
      listed.push(id);
    assert.deepEqual(listed.sort(), [first.id, second.id].sort());

    assert.equal((await issuer.revoke(second.id, { reason: "superseded" })).already, false);
    await daemon.answers(client, second.token, "revoked");
    assert.equal((await issuer.revoke(second.id)).already, true);
    await assert.rejects(issuer.rotate(second.id), { code: "dead" });
    await assert.rejects(issuer.get("00000000000000"), { code: "not_found" });
    const { events, checkpoint } = await issuer.history(first.id);
    assert.ok(events.length >= 2 && checkpoint.length > 0);
  });
});
