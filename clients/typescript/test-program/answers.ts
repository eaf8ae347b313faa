// What the client says, as the messages of the runner.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, type Duration } from "@bufbuild/protobuf/wkt";
import {
  type Answer,
  type Conditional,
  type Deleted,
  type Entry,
  type Found,
  type Holder,
  type Kind as ClientKind,
  type OperationResult,
  SeshatError,
  type TxnOutcome,
  type Update,
  type Written,
} from "../src/index.js";
import {
  Applied,
  type EntrySchema,
  type FailureSchema,
  Kind,
  type OperationResultSchema,
  type ResponseSchema,
} from "./gen/seshat/conformance/v1/conformance_pb.js";

export type Outcome = NonNullable<MessageInitShape<typeof ResponseSchema>["outcome"]>;
type EntryMessage = MessageInitShape<typeof EntrySchema>;
type ResultMessage = MessageInitShape<typeof OperationResultSchema>;

export const DONE: Outcome = { case: "done", value: {} };

const KINDS: Record<ClientKind, Kind> = {
  refused: Kind.REFUSED,
  unreachable: Kind.UNREACHABLE,
  deadline: Kind.DEADLINE,
  unserved: Kind.UNSERVED,
  interrupted: Kind.INTERRUPTED,
  session_lost: Kind.SESSION_LOST,
  invalid: Kind.INVALID,
  cancelled: Kind.CANCELLED,
};

/** The outcome of an action that has thrown. What is no error of the client is a fault of this program. */
export function failure(error: unknown): Outcome {
  if (!(error instanceof SeshatError)) {
    console.error(error);
    return { case: "failure", value: { message: String(error) } };
  }
  return { case: "failure", value: failureMessage(error) };
}

function failureMessage(error: SeshatError): MessageInitShape<typeof FailureSchema> {
  return {
    applied: error.applied === "no" ? Applied.NO : Applied.UNKNOWN,
    kind: KINDS[error.kind],
    reason: error.reason ?? "",
    message: error.message,
  };
}

export function milliseconds(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : durationMs(duration);
}

function entryMessage({ key, value, revision }: Entry): EntryMessage {
  return { key, value, revision };
}

function foundMessage(key: Uint8Array, { value, revision }: Found): { entry?: EntryMessage } {
  return value === undefined ? {} : { entry: { key, value, revision } };
}

export function got(key: Uint8Array, found: Found): Outcome {
  return { case: "got", value: foundMessage(key, found) };
}

function notHeld(key: Uint8Array, found: Found): Outcome {
  const { entry } = foundMessage(key, found);
  return { case: "notHeld", value: entry === undefined ? {} : { found: entry } };
}

export function written(key: Uint8Array, write: Written | Conditional<Written>): Outcome {
  if ("succeeded" in write && !write.succeeded) {
    return notHeld(key, write.found);
  }
  return { case: "written", value: { revision: write.revision } };
}

export function deleted(key: Uint8Array, removal: Deleted | Conditional<Deleted>): Outcome {
  if ("succeeded" in removal && !removal.succeeded) {
    return notHeld(key, removal.found);
  }
  return { case: "deleted", value: { existed: removal.existed, revision: removal.revision } };
}

export function txnDone({ succeeded, results, revision }: TxnOutcome): Outcome {
  return { case: "txnDone", value: { succeeded, results: results.map(resultMessage), revision } };
}

function resultMessage(result: OperationResult): ResultMessage {
  switch (result.type) {
    case "set":
      return { result: { case: "set", value: {} } };
    case "get":
      return {
        result: { case: "get", value: result.entry === undefined ? {} : { entry: entryMessage(result.entry) } },
      };
    case "delete":
      return { result: { case: "existed", value: result.existed } };
  }
}

export function answers(keys: readonly Uint8Array[], given: readonly Answer[]): Outcome {
  const results = given.map((answer, index): ResultMessage => {
    switch (answer.type) {
      case "set":
        return { result: { case: "set", value: {} } };
      case "get":
        return { result: { case: "get", value: foundMessage(keys[index] ?? new Uint8Array(), answer) } };
      case "delete":
        return { result: { case: "existed", value: answer.existed } };
      case "error":
        return { result: { case: "failure", value: failureMessage(answer.error) } };
      case "txn":
        throw new Error("no transaction was sent");
    }
  });
  return { case: "answers", value: { results } };
}

export function scanned(entries: readonly Entry[], count: bigint): Outcome {
  return { case: "scanned", value: { entries: entries.map(entryMessage), count } };
}

export function holderIs(holder: Holder | undefined): Outcome {
  const value = holder === undefined ? { held: false } : { held: true, value: holder.value, token: holder.token };
  return { case: "holderIs", value };
}

/** Absent: this is not told. */
export function update(news: Update): Outcome | undefined {
  switch (news.type) {
    case "reset":
      return { case: "update", value: { update: { case: "reset", value: {} } } };
    case "state": {
      const value = { entries: news.entries.map(entryMessage), deleted: [...news.deleted] };
      return { case: "update", value: { update: { case: "state", value } } };
    }
    case "synced":
      return { case: "update", value: { update: { case: "synced", value: news.position.revision } } };
    case "events": {
      const events = news.events.map((event) =>
        event.type === "set"
          ? { cause: "set", entry: entryMessage(event.entry) }
          : { cause: event.cause, entry: { key: event.key, revision: event.revision } },
      );
      return { case: "update", value: { update: { case: "events", value: { revision: news.revision, events } } } };
    }
    case "progress":
    case "disconnected":
      return undefined;
  }
}
