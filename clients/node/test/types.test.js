// The hand-written types, as the compiler of TypeScript sees them in a user's file.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import * as express from "adamant-client/express";
import * as fastify from "adamant-client/fastify";
import * as main from "adamant-client";
import * as testing from "adamant-client/testing";

import { withoutPackage } from "./support/need.js";

const packages = ["typescript", "express", "fastify"];
const skip = (await Promise.all(packages.map(withoutPackage))).find((reason) => reason) ?? false;

test("a user's file has the types that it should have", { skip }, async () => {
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const project = fileURLToPath(new URL("types/tsconfig.json", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, "-p", project]).catch(
    (err) => err,
  );
  assert.equal(stdout, "");
});

test("the package has no more and no fewer names than its types", () => {
  assert.deepEqual(Object.keys(main).sort(), ["Client", "Issuer", "IssuerError", "Unavailable"]);
  assert.deepEqual(Object.keys(express), ["requireToken"]);
  assert.deepEqual(Object.keys(fastify).sort(), ["default", "requireToken"]);
  assert.deepEqual(Object.keys(testing), ["FakeDaemon"]);
});
