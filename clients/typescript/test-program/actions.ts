// The actions of the runner, as calls of the client.

import { createRegistry, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import {
  Client,
  type ClientOptions,
  Command,
  Condition,
  type Holders,
  KeyRange,
  type Lifetime,
  type Limits,
  type LivingSession,
  type Lock,
  type On,
  Operation,
  type Session,
  type Token,
  type Watch,
} from "../src/index.js";
import { cancelled } from "../src/errors.js";
import { file_seshat_kv_v1_error } from "../src/gen/seshat/kv/v1/error_pb.js";
import { file_seshat_kv_v1_kv } from "../src/gen/seshat/kv/v1/kv_pb.js";
import { file_seshat_kv_v1_kv_service } from "../src/gen/seshat/kv/v1/kv_service_pb.js";
import { file_seshat_kv_v1_txn } from "../src/gen/seshat/kv/v1/txn_pb.js";
import { file_seshat_kv_v1_watch } from "../src/gen/seshat/kv/v1/watch_pb.js";
import { file_seshat_lock_v1_lock_service } from "../src/gen/seshat/lock/v1/lock_service_pb.js";
import {
  answers,
  deleted,
  DONE,
  failure,
  got,
  holderIs,
  milliseconds,
  type Outcome,
  scanned,
  txnDone,
  update,
  written,
} from "./answers.js";
import type {
  Caller,
  Condition as ConditionMessage,
  Connect,
  Delete,
  Echo,
  Get,
  Lifetime as LifetimeMessage,
  Lock as LockAction,
  Observe,
  OpenSession,
  Operation as OperationMessage,
  Pipeline,
  Request,
  Scan,
  Set as SetAction,
  Txn,
  Watch as WatchAction,
} from "./gen/seshat/conformance/v1/conformance_pb.js";

const registry = createRegistry(
  file_seshat_kv_v1_error,
  file_seshat_kv_v1_kv,
  file_seshat_kv_v1_kv_service,
  file_seshat_kv_v1_txn,
  file_seshat_kv_v1_watch,
  file_seshat_lock_v1_lock_service,
);

/** What the client does not have. */
class Unsupported extends Error {}

/** Carries out actions, and keeps what they have made. */
export class Actions {
  readonly #clients = new Map<string, Client>();
  readonly #sessions = new Map<string, Session | LivingSession>();
  readonly #watches = new Map<string, Watch>();
  readonly #observations = new Map<string, Holders>();
  readonly #locks = new Map<string, Lock>();
  /** News that were asked for, by their handle. */
  readonly #pending = new Map<string, Promise<Outcome | undefined>>();
  readonly #running = new Map<bigint, AbortController>();

  async carryOut({ id, action }: Request): Promise<Outcome> {
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      return await this.#carryOut(action, controller.signal);
    } catch (error) {
      return error instanceof Unsupported ? { case: "unsupported", value: { what: error.message } } : failure(error);
    } finally {
      this.#running.delete(id);
    }
  }

  /** Closes all clients. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#clients.values()].map((client) => client.close()));
  }

  async #carryOut(action: Request["action"], signal: AbortSignal): Promise<Outcome> {
    switch (action.case) {
      case "echo":
        return echo(action.value);
      case "connect":
        this.#clients.set(action.value.client, connect(action.value));
        return DONE;
      case "close":
        await this.#close(action.value.handle, signal);
        return DONE;
      case "cancel":
        this.#running.get(action.value.request)?.abort(new Error("the runner has cancelled it"));
        return DONE;
      case "get":
        return this.#get(action.value, signal);
      case "set":
        return this.#set(action.value, signal);
      case "delete":
        return this.#delete(action.value, signal);
      case "txn":
        return this.#txn(action.value, signal);
      case "scan":
        return this.#scan(action.value, signal);
      case "openSession":
        return this.#openSession(action.value, signal);
      case "awaitLost":
        await orCancelled(this.#lost(action.value.handle), signal);
        return DONE;
      case "watch":
        return this.#watch(action.value);
      case "next":
        return this.#next(action.value.handle, signal);
      case "lock":
        return this.#lock(action.value, signal);
      case "observe":
        return this.#observe(action.value);
      case "pipeline":
        return this.#pipeline(action.value, signal);
      case undefined:
        return { case: "unsupported", value: { what: "an action of a newer runner" } };
    }
  }

  async #close(handle: string, signal: AbortSignal): Promise<void> {
    this.#watches.get(handle)?.close();
    this.#observations.get(handle)?.close();
    await this.#locks.get(handle)?.release({ signal });
    const session = this.#sessions.get(handle);
    if (session !== undefined && "close" in session) {
      await session.close({ signal });
    }
    await this.#clients.get(handle)?.close();
  }

  async #get({ caller, key }: Get, signal: AbortSignal): Promise<Outcome> {
    return got(key, await this.#keys(caller).find(key, limits(caller, signal)));
  }

  async #set({ caller, key, value, condition, lifetime }: SetAction, signal: AbortSignal): Promise<Outcome> {
    const options = { ...limits(caller, signal), ...this.#lifetime(lifetime) };
    const keys = this.#keys(caller);
    const write = condition
      ? keys.set(key, value, { ...options, ...this.#on(condition) })
      : keys.set(key, value, options);
    return written(key, await write);
  }

  async #delete({ caller, key, condition }: Delete, signal: AbortSignal): Promise<Outcome> {
    const options = limits(caller, signal);
    const keys = this.#keys(caller);
    const removal = condition ? keys.delete(key, { ...options, ...this.#on(condition) }) : keys.delete(key, options);
    return deleted(key, await removal);
  }

  async #txn({ caller, conditions, ...then }: Txn, signal: AbortSignal): Promise<Outcome> {
    const txn = {
      conditions: conditions.map((condition) => this.#condition(condition)),
      success: then.success.map((operation) => this.#operation(operation)),
      failure: then.failure.map((operation) => this.#operation(operation)),
    };
    return txnDone(await this.#keys(caller).txn(txn, limits(caller, signal)));
  }

  async #scan({ caller, prefix, limit, keysOnly, countOnly }: Scan, signal: AbortSignal): Promise<Outcome> {
    const most = limit === 0n ? {} : { limit: Number(limit) };
    const client = this.#client(caller);
    if (countOnly) {
      return scanned([], await client.count(prefix, { ...most, ...limits(caller, signal) }));
    }
    return scanned(await client.scan(prefix, { ...most, keysOnly, ...limits(caller, signal) }).collect(), 0n);
  }

  async #openSession({ client, session, ttl }: OpenSession, signal: AbortSignal): Promise<Outcome> {
    const lives = milliseconds(ttl);
    const opener = known(this.#clients, client);
    const opened = await (lives === undefined ? opener.session({ signal }) : opener.session({ ttl: lives, signal }));
    this.#sessions.set(session, opened);
    return { case: "sessionOpened", value: { id: opened.id } };
  }

  async #lost(handle: string): Promise<void> {
    const session = this.#sessions.get(handle);
    if (session !== undefined && "lost" in session) {
      await session.lost;
    } else {
      await known(this.#locks, handle).lost;
    }
  }

  #watch({ client, watch, range }: WatchAction): Outcome {
    const keys = range.case === "key" ? KeyRange.key(range.value) : KeyRange.prefix(range.value ?? "");
    this.#watches.set(watch, known(this.#clients, client).watch(keys));
    return DONE;
  }

  #observe({ client, observation, name }: Observe): Outcome {
    this.#observations.set(observation, known(this.#clients, client).observe(name));
    return DONE;
  }

  async #next(handle: string, signal: AbortSignal): Promise<Outcome> {
    for (;;) {
      const told = await orCancelled(this.#news(handle), signal);
      this.#pending.delete(handle);
      if (told !== undefined) {
        return told;
      }
    }
  }

  /** The next news of a handle. A request that is cancelled takes none away. */
  #news(handle: string): Promise<Outcome | undefined> {
    const news = this.#pending.get(handle) ?? this.#ask(handle);
    this.#pending.set(handle, news);
    return news;
  }

  async #ask(handle: string): Promise<Outcome | undefined> {
    const observation = this.#observations.get(handle);
    if (observation !== undefined) {
      const { done, value: holder } = await observation.next();
      return done === true ? CLOSED : holderIs(holder);
    }
    const { done, value: news } = await known(this.#watches, handle).next();
    return done === true ? CLOSED : update(news);
  }

  async #lock({ caller, lock, name, value, maxWait, ttl }: LockAction, signal: AbortSignal): Promise<Outcome> {
    const wait = milliseconds(maxWait);
    const lives = milliseconds(ttl);
    const options = { value, ...limits(caller, signal), ...(lives === undefined ? {} : { ttl: lives }) };
    const source = caller?.caller.case === "session" ? this.#living(caller.caller.value) : this.#client(caller);
    const held = await (wait === undefined
      ? source.lock(name, options)
      : source.tryLock(name, { ...options, maxWait: wait }));
    if (held === undefined) {
      return { case: "notAcquired", value: {} };
    }
    this.#locks.set(lock, held);
    return { case: "acquired", value: { token: held.token } };
  }

  async #pipeline({ caller, commands }: Pipeline, signal: AbortSignal): Promise<Outcome> {
    const source =
      caller?.caller.case === "session" ? known(this.#sessions, caller.caller.value) : this.#client(caller);
    const options = limits(caller, signal);
    const pipeline = await source.pipeline(options);
    try {
      // Each command is a batch of its own: they do not wait for one another.
      const sent = await Promise.all(commands.map((it) => pipeline.submit([command(it)], options)));
      const given = await Promise.all(sent.map((batch) => batch.answers));
      return answers(
        commands.map((it) => it.operation.value?.key ?? new Uint8Array()),
        given.flat(),
      );
    } finally {
      pipeline.close();
    }
  }

  #keys(caller: Caller | undefined): Client | Session {
    return caller?.caller.case === "session" ? known(this.#sessions, caller.caller.value) : this.#client(caller);
  }

  #client(caller: Caller | undefined): Client {
    return known(this.#clients, caller?.caller.value ?? "");
  }

  #living(handle: string): LivingSession {
    const session = known(this.#sessions, handle);
    if (!("lock" in session)) {
      throw new Error(`${handle} is no living session`);
    }
    return session;
  }

  #operation({ operation }: OperationMessage): Operation {
    switch (operation.case) {
      case "set":
        return Operation.set(operation.value.key, operation.value.value, this.#lifetime(operation.value.lifetime));
      case "get":
        return Operation.get(operation.value.key);
      case "delete":
        return Operation.delete(operation.value.key);
      case undefined:
        throw new Error("an operation of a newer runner");
    }
  }

  #lifetime(lifetime: LifetimeMessage | undefined): Lifetime {
    switch (lifetime?.lifetime.case) {
      case "ttl":
        return { ttl: milliseconds(lifetime.lifetime.value) };
      case "owner":
        return { owner: known(this.#sessions, lifetime.lifetime.value) };
      case "keep":
        return { keepLifetime: true };
      case undefined:
        return {};
    }
  }

  #condition({ key, test }: ConditionMessage): Condition {
    switch (test.case) {
      case "exists":
        return test.value ? Condition.exists(key) : Condition.missing(key);
      case "revision":
        return Condition.revision(key, test.value);
      case "value":
        return Condition.value(key, test.value);
      case "held":
        return Condition.held(known(this.#locks, test.value));
      case "token":
        return Condition.held(test.value);
      case undefined:
        throw new Error("a condition of a newer runner");
    }
  }

  /** The condition of a write. */
  #on({ test }: ConditionMessage): On {
    switch (test.case) {
      case "revision":
        return { ifRevision: test.value };
      case "value":
        return { ifValue: test.value };
      case "held":
        return { ifHeld: known(this.#locks, test.value) satisfies Token };
      case "token":
        return { ifHeld: test.value };
      case "exists":
        if (!test.value) {
          return { ifAbsent: true };
        }
        throw new Unsupported("a write on the condition that its key exists");
      case undefined:
        throw new Error("a condition of a newer runner");
    }
  }
}

function connect({ endpoints, timeout, onlyCluster }: Connect): Client {
  const options: ClientOptions = { onRecovery: () => undefined };
  const limit = milliseconds(timeout);
  if (limit !== undefined) {
    options.timeout = limit;
  }
  if (onlyCluster !== undefined) {
    options.onlyCluster = onlyCluster;
  }
  return new Client(endpoints, options);
}

function echo({ type, message }: Echo): Outcome {
  const schema = registry.getMessage(type);
  if (schema === undefined) {
    return { case: "unsupported", value: { what: `the message ${type}` } };
  }
  const parsed =
    message.case === "json"
      ? fromJsonString(schema, message.value, { registry })
      : fromBinary(schema, message.value ?? new Uint8Array());
  return {
    case: "echoed",
    value: { binary: toBinary(schema, parsed), json: toJsonString(schema, parsed, { registry }) },
  };
}

function command({ operation }: OperationMessage): Command {
  switch (operation.case) {
    case "set":
      return Command.set(operation.value.key, operation.value.value);
    case "get":
      return Command.get(operation.value.key);
    case "delete":
      return Command.delete(operation.value.key);
    case undefined:
      throw new Error("a command of a newer runner");
  }
}

function limits(caller: Caller | undefined, signal: AbortSignal): Limits {
  const timeout = milliseconds(caller?.timeout);
  return timeout === undefined ? { signal } : { signal, timeout };
}

const CLOSED: Outcome = { case: "failure", value: { message: "it was closed" } };

/** Waits, until the runner cancels it. */
async function orCancelled<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const gaveUp = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => {
      reject(cancelled("no", signal.reason));
    });
  });
  return Promise.race([promise, gaveUp]);
}

/** What the runner names. */
function known<T>(all: ReadonlyMap<string, T>, handle: string): T {
  const found = all.get(handle);
  if (found === undefined) {
    throw new Error(`the runner names ${JSON.stringify(handle)}, which is not there`);
  }
  return found;
}
