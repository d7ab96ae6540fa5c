// What the Node client adds to a question: verify.mjs SOCKET COUNT, a token on standard input.
//
// Prints JSON: microseconds of a question with the frames of the client and nothing around them,
// and of the client's `verify`, claims and all; rounds of both alternate.

import { mkdtempSync, readFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../../../clients/node/src/index.js";

const [path, count] = [process.argv[2], Number(process.argv[3])];
const token = readFileSync(0, "utf8").trim();

/** HELLO and a question, as the client sends them: by a listener between it and the daemon. */
async function clientFrames() {
  const between = join(mkdtempSync(join(tmpdir(), "adamant-")), "between");
  const sent = [];
  const server = net.createServer((near) => {
    const far = net.connect(path);
    near.on("data", (bytes) => {
      sent.push(bytes);
      far.write(bytes);
    });
    far.on("data", (bytes) => near.write(bytes));
    near.on("close", () => far.destroy());
  });
  await new Promise((resolve) => server.listen(between, resolve));
  const client = new Client({ socket: between, timeoutMs: 10_000 });
  await client.verify(token);
  client.close();
  server.close();
  return sent;
}

/** Sends the question of `frames` one after another, and takes each reply. */
async function raw([hello, question]) {
  const socket = net.connect(path);
  let done;
  let expected = 0;
  let received = 0;
  socket.on("data", (bytes) => {
    received += bytes.length;
    if (received >= expected) done();
  });
  const ask = (frame, bytes) => {
    [received, expected] = [0, bytes];
    return new Promise((resolve) => {
      done = resolve;
      socket.write(frame);
    });
  };
  await ask(hello, 1);
  await ask(question, 1);
  const replyBytes = received;
  const began = performance.now();
  for (let i = 0; i < count; i += 1) await ask(question, replyBytes);
  const took = performance.now() - began;
  socket.destroy();
  return (took / count) * 1e3;
}

async function throughClient(client) {
  const began = performance.now();
  for (let i = 0; i < count; i += 1) await client.verify(token);
  return ((performance.now() - began) / count) * 1e3;
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const frames = await clientFrames();
const client = new Client({ socket: path, timeoutMs: 10_000 });
if (!(await client.verify(token)).valid) throw new Error("the token is not valid");
const [bare, full] = [[], []];
for (let round = 0; round < 7; round += 1) {
  bare.push(await raw(frames));
  full.push(await throughClient(client));
}
client.close();
console.log(JSON.stringify({ raw_us: median(bare), client_us: median(full) }));
