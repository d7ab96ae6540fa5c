// The examples of docs/protocol.md, by their title.

import { readFileSync } from "node:fs";

const page = readFileSync(new URL("../../../../docs/protocol.md", import.meta.url), "utf8");

export const TOKEN = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";

export const EXAMPLES = Object.fromEntries(
  [...page.matchAll(/^```hex (.+)\n([^]*?)^```/gm)].map(([, title, block]) => {
    const hex = block.replace(/;.*$/gm, "").replace(/\s/g, "");
    return [title, Buffer.from(hex, "hex")];
  }),
);
