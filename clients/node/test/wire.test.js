// Literal bytes: what is written, what is read, and what is refused.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Requirement } from "../src/requirement.js";
import {
  FrameError,
  HELLO,
  Reader,
  readClaims,
  readError,
  readEvidence,
  readHello,
  readRow,
  skipRows,
} from "../src/wire.js";
import { EXAMPLES } from "./support/page.js";

/** A body without its length and its number. */
function rest(frame) {
  return new Reader(frame, 8, frame.length);
}

test("the request of HELLO is the page's", () => {
  assert.deepEqual(HELLO, EXAMPLES["HELLO request"]);
});

test("the reply to HELLO is read as the page says", () => {
  const hello = readHello(rest(EXAMPLES["HELLO reply"]));
  assert.equal(
    Buffer.from(hello.key).toString("hex"),
    "58011646eefa53e0d97e26001d48e7950db48025268253e6a574848789ba47ab",
  );
  delete hello.key;
  assert.deepEqual(hello, {
    prefix: "acme",
    foreign: [],
    epoch: 1,
    generation: 42,
    frameBytesMax: 1048576,
    digestsMax: 16384,
    tokensMax: 4096,
    claimsRowsMax: 64,
  });
});

test("a HELLO of another version, without a prefix's form or with low limits is refused", () => {
  const changed = (at, byte) => {
    const frame = Buffer.from(EXAMPLES["HELLO reply"]);
    frame[at] = byte;
    return () => readHello(rest(frame));
  };
  assert.throws(changed(8, 2), /speaks version 2 of the protocol, this client 1/);
  assert.throws(changed(52, 0x41), /prefix is none/);
  const end = EXAMPLES["HELLO reply"].length;
  assert.throws(changed(end - 14, 0), /limits/);
  assert.throws(changed(end - 4, 0), /limits/);
});

test("verdicts are read as the page says", () => {
  const reader = rest(EXAMPLES["VERDICTS reply"]);
  assert.deepEqual(readEvidence(reader), {
    stale: false,
    epoch: 1,
    generation: 42,
    revocations: 7,
    age: 3600,
  });
  const at = skipRows(reader, 1);
  assert.deepEqual(readRow(reader.buffer, at), {
    verdict: 10,
    tokenId: "V6T2UmxQamt62t",
    expires: Date.parse("2027-01-01T00:00:00Z") / 1000,
  });
  assert.equal(reader.u64(), 0);
  reader.finish();
});

test("an error is read as the page says", () => {
  assert.deepEqual(readError(rest(EXAMPLES["ERROR reply"])), {
    number: 4,
    name: "hello first",
    text: "say hello first",
  });
});

test("every shorter and longer body is refused", () => {
  const readAll = {
    "HELLO reply": readHello,
    "ERROR reply": readError,
    "VERDICTS reply": (reader) => {
      readEvidence(reader);
      skipRows(reader, 1);
      reader.u64();
      reader.finish();
    },
  };
  for (const [title, read] of Object.entries(readAll)) {
    const frame = EXAMPLES[title];
    for (let end = 8; end < frame.length; end += 1) {
      assert.throws(() => read(new Reader(frame, 8, end)), FrameError, `${title} cut to ${end}`);
    }
    const longer = Buffer.concat([frame, Buffer.alloc(1)]);
    assert.throws(() => read(rest(longer)), FrameError, `${title} with a byte too many`);
  }
});

test("a row that contradicts itself is refused", () => {
  const { length } = EXAMPLES["VERDICTS reply"];
  const row = (change) => {
    const bytes = Buffer.from(EXAMPLES["VERDICTS reply"].subarray(length - 32, length - 8));
    change(bytes);
    return () => readRow(bytes, 0);
  };
  assert.doesNotThrow(row(() => {}));
  assert.throws(
    row((bytes) => (bytes[0] = 11)),
    /no verdict has the number 11/,
  );
  for (const verdict of [0, 1, 2]) {
    assert.throws(
      row((bytes) => (bytes[0] = verdict)),
      /contradicts/,
      `${verdict} with a record`,
    );
  }
  assert.throws(
    row((bytes) => (bytes[15] = 255)),
    /contradicts/,
  );
  // Unknown, and so without id, expiry and grant.
  const without = (change) =>
    row((bytes) => {
      bytes.fill(0);
      bytes[0] = 2;
      bytes[15] = 255;
      change(bytes);
    });
  assert.deepEqual(without(() => {})(), { verdict: 2, tokenId: null, expires: null });
  for (const at of [4, 14, 16, 23]) {
    assert.throws(
      without((bytes) => (bytes[at] = 1)),
      /contradicts/,
      `byte ${at}`,
    );
  }
  // 62^14 is the first number that 14 digits cannot write.
  const limit = (62n ** 14n).toString(16).padStart(22, "0");
  assert.throws(
    row((bytes) => Buffer.from(limit, "hex").copy(bytes, 4)),
    /no token has/,
  );
  const last = (62n ** 14n - 1n).toString(16).padStart(22, "0");
  assert.equal(row((bytes) => Buffer.from(last, "hex").copy(bytes, 4))().tokenId, "z".repeat(14));
});

test("numbers of 64 bits are exact", () => {
  const read = (number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(number);
    return new Reader(bytes, 0, 8).u64();
  };
  assert.equal(read(2n ** 53n - 1n), Number.MAX_SAFE_INTEGER);
  assert.equal(read(2n ** 53n), 2n ** 53n);
  assert.equal(read(2n ** 64n - 1n), 2n ** 64n - 1n);
  assert.ok(read(2n ** 53n + 1n) > read(2n ** 53n));
  assert.ok(read(2n ** 53n) > read(5n));
});

test("a text that is not UTF-8 is refused, and U+FFFD itself is not", () => {
  const text = (...bytes) => Buffer.from([bytes.length, 0, 0, 0, 0, 0, 0, 0, ...bytes]);
  const read = (bytes) => new Reader(bytes, 0, bytes.length).text();
  assert.equal(read(text(0xef, 0xbf, 0xbd)), "\uFFFD");
  assert.throws(() => read(text(0x61, 0xff)), /not UTF-8/);
});

test("claims are read, and a wrong mark before them is refused", () => {
  const read = (bytes) => readClaims(new Reader(bytes, 0, bytes.length));
  assert.equal(read(Buffer.from([0])), null);
  assert.throws(() => read(Buffer.from([2])), /0 or 1/);
  // Four empty texts and an empty list.
  assert.deepEqual(read(Buffer.concat([Buffer.from([1]), Buffer.alloc(40)])), {
    kind: null,
    audience: null,
    scopes: [],
    subject: null,
    meta: null,
  });
});

test("a requirement stands in the frame as the page says", () => {
  const frame = EXAMPLES["VERIFY request"];
  const { head } = new Requirement({ kind: "live", scopes: ["orders:read"], claims: false });
  assert.deepEqual(head, frame.subarray(8, 8 + head.length));
  assert.deepEqual(
    new Requirement({ kind: "live", scope: "orders:read", claims: false }).head,
    head,
  );
});

test("a requirement that would not be checked is refused", () => {
  const wrong = [
    [{ scpoes: ["orders:read"] }, /has no scpoes/],
    [{ audience: undefined }, /audience is undefined/],
    [{ scopes: "orders:read" }, /scopes is a list/],
    [{ scope: "" }, /scope is a text/],
    [{ kind: "ninechars" }, /9 bytes, at most 8/],
    [{ audience: "a".repeat(256) }, /256 bytes, at most 255/],
    [{ scopes: ["é".repeat(65)] }, /130 bytes, at most 128/],
    [{ scopes: new Array(65).fill("a") }, /65 scopes, at most 64/],
    [{ claims: "yes" }, /claims is true or false/],
    ["orders:read", /no object/],
  ];
  for (const [need, message] of wrong) assert.throws(() => new Requirement(need), message);
});
