// A server at a Unix socket that gives the responses of the issuing service's contract, in order,
// and keeps what it was asked.

import http from "node:http";
import path from "node:path";

import { temporaryFolder } from "./folder.js";

/** Each response is `[status, body]`, with headers of its own in a third place. */
export async function contract(t, ...responses) {
  const socket = path.join(temporaryFolder(t), "issuer.sock");
  const served = { socket, requests: [], connections: 0 };
  const server = http.createServer(async (request, response) => {
    const chunks = await request.toArray();
    const { method, url, headers } = request;
    served.requests.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
    const [status, body, more = {}] = responses.shift() ?? [500, "no response is left"];
    if (status === null) return response.destroy();
    if (status === "never") return;
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const type = status < 400 ? "application/json" : "application/problem+json";
    response.writeHead(status, { "Content-Type": type, ...more }).end(text);
  });
  server.on("connection", () => (served.connections += 1));
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return served;
}
