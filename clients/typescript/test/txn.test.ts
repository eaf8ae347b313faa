import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Batch, changes, Command, reply } from "../src/batch.js";
import { Fault } from "../src/fault.js";
import { Applied, ErrorDetailSchema } from "../src/gen/seshat/kv/v1/error_pb.js";
import {
  PipelineRequestSchema,
  PipelineResultSchema,
  TxnRequestSchema,
  TxnResponseSchema,
} from "../src/gen/seshat/kv/v1/kv_service_pb.js";
import type { OperationResultSchema } from "../src/gen/seshat/kv/v1/txn_pb.js";
import { Numbers } from "../src/numbers.js";
import { Condition, isWrite, Operation, txnOutcome, txnRequest } from "../src/txn.js";

test("a transaction as a request", () => {
  const request = txnRequest({
    conditions: [
      Condition.missing("k"),
      Condition.revision("k", 2n ** 63n),
      Condition.value("k", new Uint8Array()),
      Condition.held({ name: "lock", token: 5n }),
    ],
    success: [
      Operation.set("k", "v", { ttl: 1_000.2 }),
      Operation.set("l", "", { owner: { id: 2n ** 64n - 1n } }),
      Operation.set("m", "", { keepLifetime: true }),
    ],
    failure: [Operation.get("k"), Operation.delete("k")],
  });
  const key = "aw==";
  assert.deepEqual(toJson(TxnRequestSchema, request), {
    conditions: [
      { key: { key, exists: false } },
      { key: { key, revision: "9223372036854775808" } },
      { key: { key, value: "" } },
      { lock: { name: "lock", token: "5" } },
    ],
    success: [
      { set: { key, value: "dg==", ttl: "1.001s" } },
      { set: { key: "bA==", owner: "18446744073709551615" } },
      { set: { key: "bQ==", keep: {} } },
    ],
    failure: [{ get: { key } }, { delete: { key } }],
  });
});

test("a transaction that only reads is a read", () => {
  assert.equal(isWrite({ conditions: [Condition.exists("k")], success: [Operation.get("k")] }), false);
  assert.equal(isWrite({ success: [Operation.get("k")], failure: [Operation.delete("k")] }), true);
  assert.equal(changes(Command.txn({ success: [Operation.get("k")] })), false);
});

test("an answer counts only if it fits the operations that were carried out", () => {
  const txn = { success: [Operation.set("k", "v"), Operation.delete("k")], failure: [Operation.get("k")] };
  type Done = MessageInitShape<typeof OperationResultSchema>;
  const set: Done = { result: { case: "set", value: {} } };
  const get: Done = { result: { case: "get", value: {} } };
  const removal: Done = { result: { case: "delete", value: { existed: true } } };
  const answer = (succeeded: boolean, results: Done[]) =>
    txnOutcome(txn, create(TxnResponseSchema, { succeeded, results, revision: 7n }));
  assert.deepEqual(answer(true, [set, removal]), {
    succeeded: true,
    results: [{ type: "set" }, { type: "delete", existed: true }],
    revision: 7n,
  });
  assert.deepEqual(answer(false, [get]).results, [{ type: "get", entry: undefined }]);
  const astray: [boolean, Done[]][] = [
    [true, []],
    [true, [set]],
    [true, [set, removal, get]],
    [true, [removal, removal]],
    [false, [set]],
    [false, []],
    [false, [{}]],
  ];
  for (const [succeeded, results] of astray) {
    assert.throws(() => answer(succeeded, results), { applied: "unknown" });
  }
});

test("each write of a batch has its number, and no read has one", async () => {
  const numbers = new Numbers(3n);
  const given = await numbers.next(2, new AbortController().signal);
  const commands = [Command.set("a", "1"), Command.get("a"), Command.delete("a")];
  let answered = 0;
  const batch = new Batch(commands, given, 0, (answers) => {
    answered = answers.length;
  });
  const stamp = (sequence: string) => ({ clientId: "3", sequence, firstOutstanding: "1" });
  assert.deepEqual(toJson(PipelineRequestSchema, batch.request(9n)), {
    clusterId: "9",
    commands: [
      { set: { key: "YQ==", value: "MQ==", session: stamp("1") } },
      { get: { key: "YQ==" } },
      { delete: { key: "YQ==", session: stamp("2") } },
    ],
  });
  batch.fail("a:1", Fault.silence());
  assert.equal(answered, 3);
  assert.equal(numbers.stamp(9n).firstOutstanding, 3n, "no caller waits for its numbers any more");
});

test("a write of a batch may have been applied only if it was sent", () => {
  const outcome = (sent: number | undefined, inDoubt: boolean, fault = Fault.silence()) => {
    let outcomes: unknown[] = [];
    const batch = new Batch([Command.set("a", "1"), Command.get("a")], [], 0, (answers) => {
      outcomes = answers.map((it) => (it.type === "error" ? it.error.applied : it));
    });
    batch.sent = sent;
    batch.inDoubt = inDoubt;
    batch.fail("a:1", fault);
    return outcomes;
  };
  const detail = create(ErrorDetailSchema, { applied: Applied.NO, reason: { case: "shuttingDown", value: {} } });
  const none = new Fault("shutting down", "no", "later", { code: Code.Unavailable, detail });
  assert.deepEqual(outcome(undefined, false), ["no", "no"]);
  assert.deepEqual(outcome(1, false), ["unknown", "no"]);
  assert.deepEqual(outcome(1, false, Fault.silence("no")), ["unknown", "no"], "only the node knows");
  assert.deepEqual(outcome(1, false, none), ["no", "no"], "the node says that it has carried out none of them");
  assert.deepEqual(outcome(1, true, none), ["unknown", "no"], "an earlier attempt is in doubt");
});

test("an answer to another command is none", () => {
  const result = create(PipelineResultSchema, { result: { case: "set", value: { appliedIndex: 4n } } });
  assert.deepEqual(reply(Command.set("k", "v"), result), { type: "set", revision: 4n });
  const applied = (command: Command) => {
    const fault = reply(command, result);
    assert.ok(fault instanceof Fault);
    return fault.applied;
  };
  assert.equal(applied(Command.delete("k")), "unknown");
  assert.equal(applied(Command.get("k")), "no", "a read changes nothing");
});
