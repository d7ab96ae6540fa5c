// A service with API keys: it hands them out, checks them and revokes them.
//
//   npm install express@5 adamant-client
//   export ADMIN_SECRET=$(openssl rand -hex 16)
//   node express_app.mjs
//
//   curl -d '{"customer":"customer-42"}' -H 'Content-Type: application/json' \
//       -H "X-Admin-Secret: $ADMIN_SECRET" http://127.0.0.1:3000/keys
//   curl -H 'Authorization: Bearer acme_live_1...' http://127.0.0.1:3000/orders
//   curl -X DELETE -H "X-Admin-Secret: $ADMIN_SECRET" http://127.0.0.1:3000/keys/ID
//
// adamantd checks (ADAMANT_SOCKET), adamant-issuer issues and revokes (ADAMANT_ISSUER_SOCKET). Both
// know this process by its user: it has no credentials for them.

import { createHash, timingSafeEqual } from "node:crypto";

import { Issuer } from "adamant-client";
import { requireToken } from "adamant-client/express";
import express from "express";

const { ADMIN_SECRET, PORT = "3000" } = process.env;
if (!ADMIN_SECRET) {
  console.error("set ADMIN_SECRET: without it anybody could make keys");
  process.exit(64);
}

const issuer = new Issuer();
const app = express();

app.get("/orders", requireToken({ audience: "orders", scope: "orders:read" }), (req, res) => {
  res.json({ customer: req.adamant.subject, orders: [] });
});

app.post("/keys", requireAdmin, express.json(), async (req, res) => {
  const { customer } = req.body ?? {};
  if (typeof customer !== "string" || customer === "") {
    return res.status(400).json({ error: "customer is a text, and not empty" });
  }
  const rights = { audience: "orders", scopes: ["orders:read"] };
  const issued = await issuer.issue({ kind: "live", subject: customer, expires: "90d", ...rights });
  // The key is told here and never again: nobody can look it up, we neither.
  res.set("Cache-Control", "no-store").status(201);
  res.json({ key: issued.token, id: issued.id, expires: issued.expires });
});

app.delete("/keys/:id", requireAdmin, async (req, res) => {
  await issuer.revoke(req.params.id, { reason: "owner-request" });
  res.status(204).end();
});

app.use((err, req, res, next) => {
  if (res.headersSent) return next(err);
  // The caller learns no more than the status. The message is for the operator.
  console.error(err.message);
  res.status(statusOf(err)).end();
});

/**
 * Who may make and revoke keys is the application's own matter, and Adamant has no opinion on it.
 * Most have users who are signed in, and let them do it for themselves. One secret that the
 * operator knows is the least that is honest: it lets nobody in who has not been told.
 */
function requireAdmin(req, res, next) {
  const digest = (text) => createHash("sha256").update(text).digest();
  const given = digest(req.get("X-Admin-Secret") ?? "");
  if (timingSafeEqual(given, digest(ADMIN_SECRET))) next();
  else res.status(401).json({ error: "X-Admin-Secret is missing or wrong" });
}

/** What the issuing service refuses because of this request; all else is our fault or nobody's. */
function statusOf(err) {
  if (err.name === "IssuerError")
    return { not_found: 404, invalid_request: 400, busy: 503 }[err.code] ?? 500;
  if (err.name === "Unavailable") return 503;
  return err.status ?? 500;
}

const server = app.listen(Number(PORT), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
