// Reads and writes, of a client or within a session.

import { type Bytes, text, toBytes } from "./bytes.js";
import { call } from "./call.js";
import { type Deleted, deleted, type Found, found, type Written, written } from "./entries.js";
import { cancelled, invalid, SeshatError } from "./errors.js";
import type { Session as SessionMessage } from "./gen/seshat/kv/v1/kv_service_pb.js";
import type { Limits, Node, Nodes, Scope } from "./nodes.js";
import type { Numbered, Numbers } from "./numbers.js";
import { linked, now, timer } from "./time.js";
import {
  Condition,
  isLimited,
  isWrite,
  type Lifetime,
  Operation,
  removal,
  type Token,
  type Txn,
  type TxnOutcome,
  txnOutcome,
  txnRequest,
} from "./txn.js";

/** The condition of a write. Exactly one is set. */
export type On =
  /** The key is missing. */
  | { readonly ifAbsent: true }
  /** The key was bound by the write of this revision, and has not been written since. 0: the key is missing. */
  | { readonly ifRevision: bigint }
  /** The key is bound to exactly this value. */
  | { readonly ifValue: Bytes }
  /** This lock is held: see `Condition.held`. */
  | { readonly ifHeld: Token };

/** The options of a write. */
export type SetOptions = Limits & Lifetime;

/** The outcome of a write on a condition. That the condition does not hold is an outcome, and no error. */
export type Conditional<T> =
  | ({ readonly succeeded: true } & T)
  /** Nothing is written: what the key was bound to, read in the same step. */
  | { readonly succeeded: false; readonly found: Found };

/** The session of writes, and the cluster that has it. */
export interface InSession {
  readonly numbers: Numbers;
  readonly cluster: bigint | undefined;
}

/** Reads and writes. */
export class Keys {
  /** @internal */
  constructor(
    /** @internal */
    readonly nodes: Nodes,
    /** @internal */
    readonly inSession?: InSession,
  ) {}

  /**
   * Reads `key`. The answer reflects every write that was acknowledged before the call began. Absent: the key is missing.
   *
   * @throws SeshatError: nothing was read.
   */
  async get(key: Bytes, limits: Limits = {}): Promise<Uint8Array | undefined> {
    return (await this.find(key, limits)).value;
  }

  /**
   * Reads `key`, whose value is UTF-8, as text.
   *
   * @throws SeshatError: nothing was read. TypeError: the value is not UTF-8.
   */
  async getText(key: Bytes, limits: Limits = {}): Promise<string | undefined> {
    const value = await this.get(key, limits);
    return value && text(value);
  }

  /**
   * Reads `key`, and returns its revision and the one that the answer reflects.
   *
   * @throws SeshatError: nothing was read.
   */
  async find(key: Bytes, limits: Limits = {}): Promise<Found> {
    const bytes = toBytes(key);
    return this.nodes.run(limits, async (scope) => {
      this.inSession?.numbers.holds();
      const get = (node: Node) => node.kv.get({ key: bytes, ...node.named }, node.limited());
      return found(await call(scope, "read", get));
    });
  }

  /**
   * Binds `key` to `value`. Resolves once a majority holds the write and the leader has applied it. With a condition it
   * resolves to whether that held.
   *
   * @throws SeshatError: the write may have been applied if its `applied` is `"unknown"`.
   */
  set(key: Bytes, value: Bytes, options: SetOptions & On): Promise<Conditional<Written>>;
  set(key: Bytes, value: Bytes, options?: SetOptions): Promise<Written>;
  async set(key: Bytes, value: Bytes, options: SetOptions & AnyOn = {}): Promise<Written | Conditional<Written>> {
    const condition = conditionOf(key, options);
    if (condition === undefined && !isLimited(options)) {
      return this.#set(toBytes(key), toBytes(value), options);
    }
    const success = [Operation.set(key, value, options)];
    if (condition === undefined) {
      return writtenBy(await this.txn({ success }, options));
    }
    return conditional(await this.txn(on(key, condition, success), options), writtenBy);
  }

  /**
   * Removes `key`. Acknowledged like {@link set}, and may have a condition as well.
   *
   * @throws SeshatError: the removal may have been applied if its `applied` is `"unknown"`.
   */
  delete(key: Bytes, options: Limits & On): Promise<Conditional<Deleted>>;
  delete(key: Bytes, options?: Limits): Promise<Deleted>;
  async delete(key: Bytes, options: Limits & AnyOn = {}): Promise<Deleted | Conditional<Deleted>> {
    const condition = conditionOf(key, options);
    if (condition === undefined) {
      return this.#delete(toBytes(key), options);
    }
    return conditional(await this.txn(on(key, condition, [Operation.delete(key)]), options), removal);
  }

  /**
   * Tests conditions, and reads and writes several keys, atomically. A transaction that writes nothing is a read of several
   * keys at one moment, and is repeated like a read.
   *
   * @throws SeshatError: the transaction may have been applied if its `applied` is `"unknown"`.
   */
  async txn(txn: Txn, limits: Limits = {}): Promise<TxnOutcome> {
    const request = txnRequest(txn);
    const carryOut = async (node: Node, session: SessionField) => {
      const answer = await node.kv.txn({ ...request, ...session, ...node.named }, node.limited());
      return txnOutcome(txn, answer);
    };
    if (isWrite(txn)) {
      return this.#write(limits, carryOut);
    }
    return this.nodes.run(limits, (scope) => {
      this.inSession?.numbers.holds();
      return call(scope, "read", (node) => carryOut(node, {}));
    });
  }

  async #set(key: Uint8Array, value: Uint8Array, limits: Limits): Promise<Written> {
    return written(
      await this.#write(limits, (node, session) =>
        node.kv.set({ key, value, ...session, ...node.named }, node.limited()),
      ),
    );
  }

  async #delete(key: Uint8Array, limits: Limits): Promise<Deleted> {
    return deleted(
      await this.#write(limits, (node, session) => node.kv.delete({ key, ...session, ...node.named }, node.limited())),
    );
  }

  #write<T>(limits: Limits, make: (node: Node, session: SessionField) => Promise<T>): Promise<T> {
    return this.nodes.run(limits, async (scope) => {
      if (this.inSession === undefined) {
        return call(scope, "once", (node) => make(node, {}));
      }
      const { numbers, cluster } = this.inSession;
      const number = await nextNumber(numbers, scope);
      try {
        const bound = { ...scope, cluster };
        return await call(bound, "numbered", (node) => make(node, { session: number.stamp() }));
      } finally {
        number.end();
      }
    });
  }
}

interface SessionField {
  session?: SessionMessage;
}

/** The next number of a session. */
export async function nextNumber(numbers: Numbers, scope: Scope): Promise<Numbered> {
  const [number] = await nextNumbers(numbers, 1, scope, "too many writes of the session are outstanding");
  if (number === undefined) {
    throw invalid("a write has one number");
  }
  return number;
}

/** The next `count` numbers of a session. `late` is the message of the error if there is no room in time. */
export async function nextNumbers(numbers: Numbers, count: number, scope: Scope, late: string): Promise<Numbered[]> {
  const { controller, unlink } = linked(scope.signal);
  const forget = timer(scope.deadline - now(), () => {
    controller.abort(new SeshatError("deadline", "no", late));
  });
  try {
    return await numbers.next(count, controller.signal);
  } catch (error) {
    throw error instanceof SeshatError ? error : cancelled("no", error);
  } finally {
    forget();
    unlink();
  }
}

/** The condition of a write, of which at most one is set. */
interface AnyOn {
  readonly ifAbsent?: true;
  readonly ifRevision?: bigint;
  readonly ifValue?: Bytes;
  readonly ifHeld?: Token;
}

const CONDITIONS = {
  ifAbsent: (key: Bytes) => Condition.missing(key),
  ifRevision: (key: Bytes, revision: bigint) => Condition.revision(key, revision),
  ifValue: (key: Bytes, value: Bytes) => Condition.value(key, value),
  ifHeld: (_: Bytes, lock: Token) => Condition.held(lock),
};

/**
 * The condition of a write, if its options have one.
 *
 * @throws SeshatError of kind `invalid`: they have several, or one without a value, such as that of a missing key. To leave it
 * out would make the write unconditional.
 */
function conditionOf(key: Bytes, options: AnyOn): Condition | undefined {
  const names = (Object.keys(CONDITIONS) as (keyof AnyOn)[]).filter((name) => name in options);
  const [name, ...others] = names;
  if (others.length > 0) {
    throw invalid("a write has one condition: use a transaction for several");
  }
  if (name === undefined) {
    return undefined;
  }
  const value: unknown = options[name];
  if (value === undefined || value === null || value === false) {
    throw invalid(`${name} is ${String(value)}: nothing can be tested against that`);
  }
  return CONDITIONS[name](key, value as never);
}

function on(key: Bytes, condition: Condition, success: Operation[]): Txn {
  return { conditions: [condition], success, failure: [Operation.get(key)] };
}

function writtenBy({ revision }: TxnOutcome): Written {
  return { revision };
}

function conditional<T extends object>(outcome: TxnOutcome, done: (outcome: TxnOutcome) => T): Conditional<T> {
  if (outcome.succeeded) {
    return { succeeded: true, ...done(outcome) };
  }
  const [read] = outcome.results;
  const entry = read?.type === "get" ? read.entry : undefined;
  const found = { value: entry?.value, revision: entry?.revision ?? 0n, appliedIndex: outcome.revision };
  return { succeeded: false, found };
}
