// The blocks of the README run as they stand.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Daemon } from "./support/daemon.js";
import { withoutPackage, withoutProgram } from "./support/need.js";

const page = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const here = fileURLToPath(new URL("..", import.meta.url));
const packages = (await withoutPackage("express")) || (await withoutPackage("fastify"));
const withoutDaemon = withoutProgram("adamant");
const withoutIssuer = withoutDaemon || withoutProgram("adamant-issuer");

/** The first block of code after `heading`. */
function block(heading) {
  return page.slice(page.indexOf(heading)).match(/```js\n([^]*?)```/)[1];
}

async function run(code, env = {}) {
  const args = ["--input-type=module", "-e", code];
  const options = { cwd: here, env: { ...process.env, ...env }, timeout: 20_000 };
  return (await promisify(execFile)(process.execPath, args, options)).stdout;
}

describe("the README", () => {
  test("its first lines greet a customer", { skip: withoutDaemon }, async (t) => {
    const daemon = await Daemon.start(t);
    const rights = ["--audience", "orders", "--scope", "orders:read"];
    const { token } = daemon.issue("--kind", "live", "--subject", "customer-42", ...rights);
    const code = `const token = process.env.TOKEN;\n${block("# adamant-client")}`;
    assert.equal(code.split("\n").filter((line) => line !== "").length, 5);
    const env = { ADAMANT_SOCKET: daemon.socket, TOKEN: token };
    assert.equal(await run(code, env), "welcome, customer-42\n");
    assert.equal(await run(code, { ...env, TOKEN: "x" }), "401: malformed\n");
  });

  test("its lines on the issuing service do what they say", { skip: withoutIssuer }, async (t) => {
    const daemon = await Daemon.start(t);
    const socket = await daemon.serveIssuer(t);
    const [issued, listed] = (
      await run(block("## Issue"), { ADAMANT_ISSUER_SOCKET: socket })
    ).split("\n");
    assert.match(issued, /^\w{14} 61$/);
    assert.equal(listed, `${issued.slice(0, 14)} valid`);
  });

  test("its other lines run", { skip: packages }, async () => {
    await run(`import express from "express";\nconst app = express();\n${block("## Express")}`);
    await run(
      `import fastify from "fastify";\nconst app = fastify();\n${block("## Fastify")}await app.ready();`,
    );
    const checked = `${block("## In your tests")}console.log(answer.valid);`;
    assert.equal(await run(checked), "true\n");
  });
});
