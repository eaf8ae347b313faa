// Ranges of keys.

import { create } from "@bufbuild/protobuf";
import { type Bytes, toBytes } from "./bytes.js";
import { type KeyRange as KeyRangeMessage, KeyRangeSchema } from "./gen/seshat/kv/v1/txn_pb.js";

/** A range of keys, in the order of their bytes. */
export class KeyRange {
  /** @internal */
  readonly message: KeyRangeMessage;

  private constructor(range: KeyRangeMessage["range"]) {
    this.message = create(KeyRangeSchema, { range });
  }

  /** `key` alone. */
  static key(key: Bytes): KeyRange {
    return new KeyRange({ case: "key", value: toBytes(key) });
  }

  /** Every key that begins with `prefix`; with an empty one, every key. */
  static prefix(prefix: Bytes): KeyRange {
    return new KeyRange({ case: "prefix", value: toBytes(prefix) });
  }

  /** The keys from `start` on and before `end`; without `end`, all from `start` on. */
  static interval(start: Bytes, end?: Bytes): KeyRange {
    const { message } = new KeyRange({ case: undefined });
    const value = { $typeName: "seshat.kv.v1.Interval" as const, start: toBytes(start) };
    message.range = { case: "interval", value: end === undefined ? value : { ...value, end: toBytes(end) } };
    return new KeyRange(message.range);
  }

  /** @internal The range that a prefix means. */
  static from(prefix: Bytes | KeyRange): KeyRange {
    return prefix instanceof KeyRange ? prefix : KeyRange.prefix(prefix);
  }
}
