// What users write, as the compiler sees it. It is checked and never run.

import express from "express";
import { fastify } from "fastify";

import { Client, Issuer, IssuerError, Unavailable } from "adamant-client";
import type { Answer, Issued, TokenRecord } from "adamant-client";
import { requireToken } from "adamant-client/express";
import adamant, { requireToken as requireTokenHook } from "adamant-client/fastify";
import { FakeDaemon } from "adamant-client/testing";

const client = new Client({ socket: "adamant.sock", timeoutMs: 20, as: "tokens" });

export async function ask(token: string): Promise<string> {
  const answer: Answer = await client.verify(token, { audience: "api", scopes: ["orders:read"] });
  if (!answer.valid) {
    const id: string | null = answer.tokenId;
    // @ts-expect-error: a token that is not valid may have no id
    const wrong: string = answer.tokenId;
    return `${answer.verdict} ${id} ${wrong}`;
  }
  const verdict: "valid" = answer.verdict;
  const isLater: boolean = answer.generation > 7;
  const until: string | undefined = answer.expires?.toISOString();
  // @ts-expect-error: an answer is not changed
  answer.valid = false;
  return `${verdict} ${answer.tokenId} ${isLater} ${until} ${answer.scopes.join(" ")}`;
}

export async function askMany(): Promise<boolean[]> {
  const answers = await client.verifyMany(["a", new Uint8Array(3)], { claims: false });
  return answers.map(({ valid }) => valid);
}

// @ts-expect-error: a mistyped requirement
client.verify("a", { scpoe: "orders:read" });
// @ts-expect-error: a requirement that may be undefined would not be checked
client.verify("a", { audience: process.env.AUDIENCE });
// @ts-expect-error: a token is given
client.verify();

export async function manage(issuer: Issuer): Promise<string> {
  try {
    const issued: Issued = await issuer.issue({
      kind: "live",
      expires: new Date(),
      requestId: "1",
    });
    const next: Issued = await issuer.rotate(issued.id, { overlap: "24h" });
    for await (const record of issuer.list({ subject: "s" })) {
      const known: TokenRecord = record;
      if (known.state === "revoked") return known.reason ?? "";
    }
    const { already } = await issuer.revoke(next.id, { reason: "superseded" });
    return `${already}`;
  } catch (err) {
    if (err instanceof IssuerError && err.code === "repeated") return err.problem.id ?? "";
    if (err instanceof Unavailable && err.reason === "refused") return err.refusal?.name ?? "";
    throw err;
  }
}
// @ts-expect-error: a token has a kind
new Issuer().issue({ subject: "s" });

express().get("/", requireToken({ scope: "orders:read", client }), (req, res) => {
  res.json({ id: req.adamant?.tokenId });
});

const app = fastify();
app.register(adamant, { scope: "orders:read" });
app.get(
  "/",
  { onRequest: requireTokenHook({ scope: "a" }) },
  async (request) => request.adamant?.tokenId,
);
app.get(
  "/other",
  { preHandler: requireTokenHook({ onUnavailable: (err) => app.log.error(err.reason) }) },
  async () => "",
);

export async function fake(): Promise<void> {
  const daemon = await FakeDaemon.listen();
  const id: string = daemon.trust("any text", { scopes: ["orders:read"] });
  await daemon.client({ timeoutMs: 1000 }).verify(id);
  await daemon.close();
}
