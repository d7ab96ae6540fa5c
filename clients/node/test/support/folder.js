import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** A temporary folder, which is gone after the test. */
export function temporaryFolder(t) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "adamant-node-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
