// Keys and values.

import { invalid } from "./errors.js";

/**
 * A key or a value: bytes, or text, which stands for its UTF-8. Bytes are not copied: leave them as they are until the call has
 * ended.
 */
export type Bytes = Uint8Array | string;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

// A lone half of a surrogate pair has no UTF-8: the encoder would make the same bytes of all of them.
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * The bytes that `bytes` stands for.
 *
 * @throws SeshatError of kind `invalid`: it is something else, or text that has no UTF-8.
 */
export function toBytes(bytes: Bytes): Uint8Array {
  if (typeof bytes === "string") {
    if (LONE_SURROGATE.test(bytes)) {
      throw invalid("the text has no UTF-8: half of a surrogate pair is missing");
    }
    return encoder.encode(bytes);
  }
  // Programs without types pass others, too.
  if (!((bytes as unknown) instanceof Uint8Array)) {
    throw invalid(`a key or value is a string or a Uint8Array, and not ${typeof bytes}`);
  }
  return bytes;
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
