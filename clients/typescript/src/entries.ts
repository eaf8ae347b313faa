// What keys are bound to, and the results of writes.

import { durationMs } from "@bufbuild/protobuf/wkt";
import type { DeleteResponse, GetResponse, SetResponse } from "./gen/seshat/kv/v1/kv_service_pb.js";
import type { Entry as EntryMessage } from "./gen/seshat/kv/v1/txn_pb.js";

/** A key that is bound, and the write that has bound it. */
export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** Revision of the write. */
  readonly revision: bigint;
  /** The TTL of the key in milliseconds, as it was set. Absent: it has none. */
  readonly ttl: number | undefined;
  /** The id of the living session that owns the key. Absent: it has no owner. */
  readonly owner: bigint | undefined;
}

/** What a key is bound to. */
export interface Found {
  /** The value. Absent: the key is missing. An empty one is a value. */
  readonly value: Uint8Array | undefined;
  /** Revision of the write that has bound the key; 0: the key is missing. */
  readonly revision: bigint;
  /** Revision up to which the answer reflects the writes. */
  readonly appliedIndex: bigint;
}

/** A write that was applied. */
export interface Written {
  /** Revision of the write. */
  readonly revision: bigint;
}

/** A removal that was applied. */
export interface Deleted {
  /** Whether the key was bound before. */
  readonly existed: boolean;
  /** Revision of the removal. */
  readonly revision: bigint;
}

/** @internal */
export function entry(message: EntryMessage): Entry {
  const { key, value, revision, ttl, owner } = message;
  return {
    key,
    value,
    revision,
    ttl: ttl === undefined ? undefined : durationMs(ttl),
    owner: owner === 0n ? undefined : owner,
  };
}

/** @internal */
export function found({ value, revision, appliedIndex }: GetResponse): Found {
  return { value, revision, appliedIndex };
}

/** @internal */
export function written({ appliedIndex }: SetResponse): Written {
  return { revision: appliedIndex };
}

/** @internal */
export function deleted({ existed, appliedIndex }: DeleteResponse): Deleted {
  return { existed, revision: appliedIndex };
}
