// What a test needs and may not be there. In CI everything must be.

import { accessSync, constants } from "node:fs";
import path from "node:path";

import { loadingBlake3 } from "../../src/token.js";

/** The path of a program of the project, from the folder that ADAMANT_BIN names. */
export function program(name) {
  return path.join(process.env.ADAMANT_BIN ?? "", name);
}

/** False, or why a test is skipped that needs `name`. */
export function withoutProgram(name) {
  if (process.env.ADAMANT_BIN === undefined) {
    return missing("ADAMANT_BIN is not set: the folder of the programs");
  }
  try {
    accessSync(program(name), constants.X_OK);
    return false;
  } catch {
    return missing(`no program ${name} in the folder that ADAMANT_BIN names`);
  }
}

/** False, or why a test is skipped that needs the package `name`. */
export async function withoutPackage(name) {
  try {
    await import(name);
    return false;
  } catch {
    return missing(`the package ${name} is missing: run npm install in clients/node`);
  }
}

/** False, or why a test is skipped that needs tokens to be hashed. */
export async function withoutBlake3() {
  const isThere = (await loadingBlake3) !== null;
  return isThere
    ? false
    : missing("the package @noble/hashes is missing: run npm install in clients/node");
}

function missing(reason) {
  if (process.env.CI) throw new Error(reason);
  return reason;
}
