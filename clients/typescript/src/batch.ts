// A batch of a pipeline: its request, and its answers.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Bytes, toBytes } from "./bytes.js";
import { type Deleted, deleted, type Found, found, type Written, written } from "./entries.js";
import type { SeshatError } from "./errors.js";
import { Fault } from "./fault.js";
import {
  type PipelineCommandSchema,
  type PipelineRequest,
  PipelineRequestSchema,
  type PipelineResult,
} from "./gen/seshat/kv/v1/kv_service_pb.js";
import type { Numbered } from "./numbers.js";
import { astray, isWrite, type Txn, type TxnOutcome, txnOutcome, txnRequest } from "./txn.js";

/** One command of a batch: see the functions of the same name. */
export type Command =
  | { readonly type: "set"; readonly key: Bytes; readonly value: Bytes }
  | { readonly type: "get"; readonly key: Bytes }
  | { readonly type: "delete"; readonly key: Bytes }
  | { readonly type: "txn"; readonly txn: Txn };

export const Command = {
  /** Binds `key` to `value`. */
  set: (key: Bytes, value: Bytes): Command => ({ type: "set", key, value }),
  /** Reads `key`. */
  get: (key: Bytes): Command => ({ type: "get", key }),
  /** Removes `key`. */
  delete: (key: Bytes): Command => ({ type: "delete", key }),
  /** Carries out a transaction. */
  txn: (txn: Txn): Command => ({ type: "txn", txn }),
} as const;

/** The answer to one command: what the call of the same name resolves to, or the error that it throws. */
export type Answer =
  | ({ readonly type: "set" } & Written)
  | ({ readonly type: "get" } & Found)
  | ({ readonly type: "delete" } & Deleted)
  | ({ readonly type: "txn" } & TxnOutcome)
  | { readonly type: "error"; readonly error: SeshatError };

/** Whether it changes anything. */
export function changes(command: Command): boolean {
  return command.type === "txn" ? isWrite(command.txn) : command.type !== "get";
}

/** A batch that was submitted. */
export class Batch {
  id = 0n;
  /** When it was sent last, unless that attempt surely had no effect. */
  sent: number | undefined;
  /** Whether an earlier attempt may have been applied. */
  inDoubt = false;

  constructor(
    readonly commands: readonly Command[],
    /** One number for each write, if the pipeline has a session. */
    readonly numbers: readonly Numbered[],
    /** When it ends, on the monotonic clock. */
    readonly deadline: number,
    readonly settle: (answers: Answer[]) => void,
  ) {}

  /** The request for the batch, for `cluster`. */
  request(cluster: bigint | undefined): PipelineRequest {
    const numbers = this.numbers.values();
    const stamped = () => {
      const number = numbers.next().value;
      return number === undefined ? {} : { session: number.stamp() };
    };
    const commands = this.commands.map((command) => {
      return { command: commandMessage(command, changes(command) ? stamped : () => ({})) };
    });
    const named = cluster === undefined ? {} : { clusterId: cluster };
    return create(PipelineRequestSchema, { id: this.id, commands, ...named });
  }

  /** Gives the caller its answers. */
  answer(answers: Answer[]): void {
    for (const number of this.numbers) {
      number.end();
    }
    this.settle(answers);
  }

  /**
   * Fails every command with `fault` of the node at `address`. A write that was sent may have been applied, unless the node
   * says that it has carried out none of them.
   */
  fail(address: string, fault: Fault): void {
    const surelyNot = fault.detail !== undefined && fault.applied === "no";
    const sent = this.inDoubt || (this.sent !== undefined && !surelyNot);
    this.answer(
      this.commands.map((command) => {
        const applied = changes(command) && sent ? "unknown" : "no";
        return { type: "error", error: fault.as(applied).ended(address) };
      }),
    );
  }
}

type CommandMessage = NonNullable<MessageInitShape<typeof PipelineCommandSchema>["command"]>;
type Stamped = () => { session?: ReturnType<Numbered["stamp"]> };

function commandMessage(command: Command, stamped: Stamped): CommandMessage {
  switch (command.type) {
    case "set":
      return { case: "set", value: { key: toBytes(command.key), value: toBytes(command.value), ...stamped() } };
    case "get":
      return { case: "get", value: { key: toBytes(command.key) } };
    case "delete":
      return { case: "delete", value: { key: toBytes(command.key), ...stamped() } };
    case "txn":
      return { case: "txn", value: { ...txnRequest(command.txn), ...stamped() } };
  }
}

/** The answer to `command`, or how it failed. */
export function reply(command: Command, { result }: PipelineResult): Answer | Fault {
  if (result.case === "error") {
    const fault = Fault.ofCommand(result.value);
    return changes(command) ? fault : fault.as("no");
  }
  if (result.case === undefined || result.case !== command.type) {
    return astray().as(changes(command) ? "unknown" : "no");
  }
  switch (result.case) {
    case "set":
      return { type: "set", ...written(result.value) };
    case "get":
      return { type: "get", ...found(result.value) };
    case "delete":
      return { type: "delete", ...deleted(result.value) };
    case "txn":
      try {
        return { type: "txn", ...txnOutcome((command as { txn: Txn }).txn, result.value) };
      } catch (error) {
        return (error as Fault).as(changes(command) ? "unknown" : "no");
      }
  }
}
