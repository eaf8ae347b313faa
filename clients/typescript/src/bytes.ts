// Keys and values.

/** A key or a value: bytes, or text, which stands for its UTF-8. */
export type Bytes = Uint8Array | string;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The bytes that `bytes` stands for. */
export function toBytes(bytes: Bytes): Uint8Array {
  return typeof bytes === "string" ? encoder.encode(bytes) : bytes;
}

/**
 * The text of a key or value that is UTF-8.
 *
 * @throws TypeError if it is not.
 */
export function text(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** A string by which maps find a key. Strings of keys have the order of the keys' bytes. */
export function keyString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
