// Fields of a frame as bytes.

export function u32(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

export function u64(number) {
  const bytes = Buffer.alloc(8);
  // Counts and lengths of this side are small; a BigInt for each would cost more than the field.
  bytes.writeUInt32LE(number);
  return bytes;
}

export function text(string) {
  const bytes = Buffer.from(string);
  return Buffer.concat([u64(bytes.length), bytes]);
}

export function texts(strings) {
  return Buffer.concat([u64(strings.length), ...strings.map(text)]);
}
