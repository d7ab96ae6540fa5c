// What a service behind `requireToken` answers, whatever it is made with.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";

/** Asks by `GET`, with headers as a list of names and values. */
export async function ask({ port }, path, headers = []) {
  const request = http.request({
    port,
    host: "127.0.0.1",
    path,
    headers: ["Host", "localhost", ...headers],
  });
  request.end();
  const [response] = await once(request, "response");
  const chunks = await response.toArray();
  const { statusCode: status, headers: found } = response;
  return { status, headers: found, body: Buffer.concat(chunks).toString() };
}

/** Holds `GET /orders` of a service to its answers. It needs `orders:read` and the audience `api`. */
export async function holdOrders(daemon, origin, reports) {
  const rights = ["--kind", "live", "--subject", "customer-42"];
  const good = daemon.issue(...rights, "--audience", "api", "--scope", "orders:read");
  const weak = daemon.issue(...rights, "--audience", "api", "--scope", "orders:list");
  const other = daemon.issue(...rights, "--audience", "mail", "--scope", "orders:read");
  const orders = (...headers) => ask(origin, "/orders", headers);
  const bearer = (token) => orders("Authorization", `Bearer ${token}`);
  await untilKnown(() => bearer(other.token), 403);

  const found = await bearer(good.token);
  assert.equal(found.status, 200, found.body);
  assert.deepEqual(JSON.parse(found.body), { id: good.id, subject: "customer-42" });
  assert.equal((await orders("authorization", `bEARER ${good.token}`)).status, 200);

  const lacks = 'Bearer error="insufficient_scope", scope="orders:read"';
  refuses(await bearer(weak.token), 403, lacks);
  refuses(await bearer(other.token), 403, lacks);

  refuses(await orders(), 401, "Bearer");
  refuses(await ask(origin, `/orders?access_token=${good.token}`), 401, "Bearer");
  refuses(await bearer("nonsense"), 401, 'Bearer error="invalid_token"');
  refuses(await bearer("non-ascii-\u00ff"), 401, 'Bearer error="invalid_token"');
  const twice = ["Authorization", `Bearer ${good.token}`, "authorization", `Bearer ${weak.token}`];
  refuses(await orders(...twice), 400, 'Bearer error="invalid_request"');
  for (const wrong of [`Basic ${good.token}`, good.token, "Bearer", `Bearer${good.token}`]) {
    refuses(await orders("Authorization", wrong), 400, 'Bearer error="invalid_request"');
  }

  daemon.revoke(good.id);
  await untilKnown(() => bearer(good.token), 401);
  refuses(await bearer(good.token), 401, 'Bearer error="invalid_token"');

  assert.deepEqual(reports, [], "nothing was amiss so far");
  await daemon.kill();
  const unavailable = await bearer(good.token);
  refuses(unavailable, 503, undefined);
  assert.equal(unavailable.headers["retry-after"], "1");
  assert.equal(reports.length, 1);
  assert.deepEqual([reports[0][0].reason, reports[0][1]], ["connect", "/orders"]);
}

function refuses({ status, headers, body }, expected, challenge) {
  assert.equal(status, expected);
  assert.equal(headers["www-authenticate"], challenge);
  assert.equal(body, "", "a refusal tells the caller no more than that");
}

/** The daemon sees a change when it is published, which is a moment later. */
async function untilKnown(request, status) {
  const end = Date.now() + 10_000;
  while ((await request()).status !== status) {
    if (Date.now() > end) throw new Error(`waited in vain for ${status}`);
  }
}
