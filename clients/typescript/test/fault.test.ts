import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { repeats } from "../src/call.js";
import { cancelled, invalid, SeshatError, sessionLost } from "../src/errors.js";
import { Fault, notSent } from "../src/fault.js";
import { Applied, ErrorDetailSchema } from "../src/gen/seshat/kv/v1/error_pb.js";
import { PipelineErrorSchema } from "../src/gen/seshat/kv/v1/kv_service_pb.js";

type Detail = MessageInitShape<typeof ErrorDetailSchema>;

/** The error of a call that a node has refused. */
function refused(code: Code, detail?: Detail): ConnectError {
  const error = new ConnectError("no\nthanks", code, { "grpc-status": String(code) });
  if (detail !== undefined) {
    error.details = [
      { type: "google.rpc.Help", value: Uint8Array.of(1) },
      {
        type: ErrorDetailSchema.typeName,
        value: toBinary(ErrorDetailSchema, create(ErrorDetailSchema, detail)),
      },
    ];
  }
  return error;
}

const notLeader = (leaderAddr?: string): Detail => ({
  applied: Applied.NO,
  reason: { case: "notLeader", value: leaderAddr === undefined ? {} : { leaderAddr } },
});

test("the detail of a refusal says whether the write was applied", () => {
  for (const [applied, expected] of [
    [Applied.NO, "no"],
    [Applied.UNKNOWN, "unknown"],
    [Applied.UNSPECIFIED, "unknown"],
    [7 as Applied, "unknown"],
  ] as const) {
    const fault = Fault.from(refused(Code.Unavailable, { ...notLeader(), applied }));
    assert.equal(fault.applied, expected);
    assert.equal(fault.ended("a:1").reason, "not_leader");
    assert.equal(fault.message, "no thanks", "on one line");
  }
});

test("the reason says whether a retry can succeed", () => {
  const later = ["notLeader", "noQuorum", "overloaded", "forming", "otherCluster", "shuttingDown"] as const;
  const nowhere = ["full", "tooLarge", "invalidRequest", "failedPrecondition", "sessionExpired"] as const;
  const retry = (reason: (typeof later)[number] | (typeof nowhere)[number]) => {
    const detail = { applied: Applied.NO, reason: { case: reason, value: {} } } as Detail;
    return Fault.from(refused(Code.Unknown, detail)).retry;
  };
  assert.deepEqual([...new Set(later.map(retry))], ["later"]);
  assert.deepEqual([...new Set(nowhere.map(retry))], ["nowhere"]);
});

test("the code decides about a reason of a newer version", () => {
  const retry = (code: Code) => Fault.from(refused(code, { applied: Applied.NO })).retry;
  for (const code of [Code.Unavailable, Code.ResourceExhausted, Code.Aborted, Code.DeadlineExceeded]) {
    assert.equal(retry(code), "later", Code[code]);
  }
  for (const code of [Code.FailedPrecondition, Code.Unknown, Code.Unimplemented, Code.Internal]) {
    assert.equal(retry(code), "nowhere", Code[code]);
  }
});

test("a status without a detail", () => {
  const seen = (code: Code) => {
    const { applied, retry, answered } = Fault.from(refused(code));
    assert.ok(answered);
    return [applied, retry];
  };
  for (const code of [Code.Unimplemented, Code.Unauthenticated, Code.PermissionDenied]) {
    assert.deepEqual(seen(code), ["no", "elsewhere"], Code[code]);
  }
  for (const code of [Code.InvalidArgument, Code.OutOfRange]) {
    assert.deepEqual(seen(code), ["no", "nowhere"], Code[code]);
  }
  for (const code of [Code.Unavailable, Code.Unknown, Code.Internal, Code.DeadlineExceeded, Code.Canceled]) {
    assert.deepEqual(seen(code), ["unknown", "later"], Code[code]);
  }
});

test("a garbled detail is none", () => {
  const error = refused(Code.Unavailable);
  error.details = [{ type: ErrorDetailSchema.typeName, value: Uint8Array.of(0xff) }];
  const { applied, retry, detail } = Fault.from(error);
  assert.deepEqual([applied, retry, detail], ["unknown", "later", undefined]);
});

test("only an error before anything was sent is surely not applied", () => {
  const unsent = Fault.from(notSent("connection refused"));
  assert.deepEqual([unsent.applied, unsent.retry, unsent.answered], ["no", "later", false]);
  // The code of a local error says nothing: no node has sent it.
  for (const code of [Code.Unavailable, Code.InvalidArgument, Code.Unimplemented]) {
    const { applied, retry, answered } = Fault.from(new ConnectError("broken", code));
    assert.deepEqual([applied, retry, answered], ["unknown", "later", false], Code[code]);
  }
  assert.equal(Fault.from(new TypeError("what?")).applied, "unknown");
  assert.equal(Fault.silence().applied, "unknown");
  assert.equal(Fault.silence("no").applied, "no");
});

test("a leader is named by an address that is well formed", () => {
  const named = (address?: string) => Fault.from(refused(Code.FailedPrecondition, notLeader(address))).leaderAddress;
  assert.equal(named("kv-2:6379"), "kv-2:6379");
  assert.equal(named("[::1]:6379"), "[::1]:6379");
  for (const address of [
    undefined,
    "",
    "kv-2",
    "kv-2:0",
    "kv-2:99999",
    "a b:1",
    "kv-2:1/path",
    "[:::]:1",
    "[fe80::1%25eth0]:1",
    "a<b:1",
  ]) {
    assert.equal(named(address), undefined, address);
  }
});

test("the error of a call tells what has ended it", () => {
  const refusal = Fault.from(
    refused(Code.ResourceExhausted, { applied: Applied.NO, reason: { case: "full", value: {} } }),
  );
  const error = refusal.ended("a:1");
  assert.deepEqual(
    [error.kind, error.applied, error.reason, error.refusal?.endpoint],
    ["refused", "no", "full", "a:1"],
  );
  assert.equal(error.refusal?.code, Code.ResourceExhausted);
  assert.equal(Fault.silence().ended("a:1").kind, "deadline");
  assert.equal(Fault.broken("reset").ended("a:1").kind, "unreachable");
});

test("a command of a pipeline is refused like a call", () => {
  const error = (code: number, detail?: Detail) =>
    Fault.ofCommand(
      create(PipelineErrorSchema, {
        code,
        message: "no",
        ...(detail && { detail: create(ErrorDetailSchema, detail) }),
      }),
    );
  assert.equal(error(Code.FailedPrecondition, notLeader()).retry, "later");
  assert.equal(error(Code.FailedPrecondition, notLeader()).applied, "no");
  assert.equal(error(Code.Unimplemented).retry, "elsewhere");
  assert.equal(error(99).code, Code.Unknown);
});

test("a call is repeated only where that is safe", () => {
  const fault = (applied: "no" | "unknown") => Fault.from(refused(Code.Unavailable)).as(applied);
  const successor = Fault.from(
    refused(Code.FailedPrecondition, {
      applied: Applied.NO,
      reason: { case: "otherCluster", value: { clusterId: 7n, successor: true } },
    }),
  );
  assert.equal(successor.successor, 7n);
  assert.deepEqual(
    (["read", "numbered", "once"] as const).map((repeat) => [
      repeats(repeat, fault("no")),
      repeats(repeat, fault("unknown")),
      repeats(repeat, successor),
      repeats(repeat, Fault.from(refused(Code.Unimplemented))),
      repeats(repeat, Fault.from(refused(Code.InvalidArgument))),
    ]),
    [
      [true, true, true, false, false],
      [true, true, false, false, false],
      [true, false, true, false, false],
    ],
  );
});

test("the leader that is overloaded goes on to lead", () => {
  const of = (reason: Detail["reason"]) =>
    Fault.from(refused(Code.ResourceExhausted, { applied: Applied.NO, ...(reason && { reason }) })).endsLeadership;
  assert.equal(of({ case: "overloaded", value: {} }), false);
  assert.equal(of({ case: "tooLarge", value: {} }), false);
  assert.equal(of({ case: "noQuorum", value: {} }), true);
});

test("an earlier attempt in doubt makes the outcome unknown", () => {
  const doubted = (error: SeshatError) => {
    const { kind, applied } = error.inDoubt();
    return [kind, applied];
  };
  assert.deepEqual(doubted(new SeshatError("refused", "no", "x")), ["refused", "unknown"]);
  assert.deepEqual(doubted(new SeshatError("unserved", "no", "x")), ["deadline", "unknown"]);
  assert.deepEqual(doubted(cancelled("no", new Error("x"))), ["cancelled", "unknown"]);
  assert.deepEqual(doubted(sessionLost("closed")), ["session_lost", "no"]);
  assert.deepEqual(doubted(invalid("x")), ["invalid", "no"]);
  const twice = new SeshatError("refused", "no", "x").inDoubt().inDoubt();
  assert.equal(twice.message, "outcome unknown: x");
});
