// A server that plays its part of a recorded conversation, byte for byte.

import net from "node:net";
import path from "node:path";

import { temporaryFolder } from "./folder.js";

/**
 * Plays `scripts`, one for each connection in the order in which they are made. A script is a list
 * of `[request, reply]`: it awaits just those bytes, and gives the reply. A reply of null is none;
 * a reply of "close" closes.
 */
export async function replay(t, ...scripts) {
  const socket = path.join(temporaryFolder(t), "socket");
  const played = { socket, connections: 0, received: [] };
  const server = net.createServer((connection) => {
    const script = scripts[played.connections];
    const index = played.connections;
    played.connections += 1;
    played.received[index] = Buffer.alloc(0);
    connection.on("error", () => connection.destroy());
    play(connection, script ?? [], (bytes) => {
      played.received[index] = Buffer.concat([played.received[index], bytes]);
    });
    t.after(() => connection.destroy());
  });
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(() => server.close());
  return played;
}

function play(connection, script, keep) {
  const steps = [...script];
  let received = Buffer.alloc(0);
  const advance = () => {
    while (steps.length > 0 && received.length >= steps[0][0].length) {
      const [request, reply] = steps.shift();
      const found = received.subarray(0, request.length);
      received = received.subarray(request.length);
      // The test sees it as a connection that ends without an answer, and its own check says more.
      if (!found.equals(request)) return connection.destroy();
      if (reply === "close") connection.end();
      else if (reply !== null) connection.write(reply);
    }
  };
  connection.on("data", (bytes) => {
    keep(bytes);
    received = Buffer.concat([received, bytes]);
    advance();
  });
  advance();
}

export function bytes(hex) {
  return Buffer.from(hex, "hex");
}
