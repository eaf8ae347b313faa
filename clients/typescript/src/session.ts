// Sessions: writes that are applied once, however often they have to be sent.

import { randomBytes } from "node:crypto";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { call } from "./call.js";
import type { Moment } from "./clock.js";
import { moment } from "./clock.js";
import { type Lost, sessionLost } from "./errors.js";
import { Fault } from "./fault.js";
import { Lease } from "./lease.js";
import { acquire, type LockOptions, tryAcquire, type TryLockOptions } from "./acquire.js";
import { Leadership, type Lock } from "./lock.js";
import type { Limits, Nodes, Scope } from "./nodes.js";
import { Numbers } from "./numbers.js";
import { Pipeline, type PipelineOptions } from "./pipeline.js";
import { renew } from "./renewal.js";
import { duration } from "./time.js";
import type { Bytes } from "./bytes.js";
import { type InSession, Keys } from "./writes.js";

/**
 * A session: each write has a number. It is sent again under that number until it is answered or its deadline has passed,
 * and is applied once. Up to 1024 writes may be in flight; a further one waits.
 *
 * A {@link LivingSession} ends when it is not renewed. Any other one stays open; but when the cluster holds too many sessions,
 * it drops the least recently used ones. Then every write of the session ends with the reason `session_expired`: see
 * `SeshatError.isSessionExpired`, and open another one. A session also ends with its cluster, if an operator recovers
 * another cluster from it.
 */
export class Session extends Keys {
  /** @internal */
  override readonly inSession: InSession;

  /** @internal */
  constructor(nodes: Nodes, inSession: InSession) {
    super(nodes, inSession);
    this.inSession = inSession;
  }

  /** The id of the session, which its client has drawn at random. */
  get id(): bigint {
    return this.inSession.numbers.clientId;
  }

  /**
   * Opens a pipeline whose writes belong to this session: it survives the loss of its connection and of the leader.
   *
   * @throws SeshatError: no leader was found in time.
   */
  async pipeline(options: PipelineOptions & Limits = {}): Promise<Pipeline> {
    this.inSession.numbers.holds();
    return Pipeline.open(this.nodes, this.inSession, options);
  }
}

/**
 * A living session: one that the client renews, and that the cluster ends when no renewal has come for its TTL. It may own
 * keys and hold locks, which end with it. It keeps the process alive until it is closed or lost.
 *
 * It is lost for the client when 90 % of the TTL have passed since it sent the last renewal that was answered. Until then it
 * lives in the cluster, as long as the rates of the clocks differ by at most 5 %. From then on every call of it ends with
 * kind `session_lost`, and nothing brings it back: end what relied on it, and open another one. A call that began before may
 * still be answered, and the answer is true. Time counts while the machine is suspended, too. A program that blocks its
 * event loop for long renews nothing, and loses the session.
 */
export class LivingSession extends Session {
  /** @internal */
  readonly lease: Lease;
  #closed: Promise<void> | undefined;
  readonly #close: () => Promise<void>;

  /** @internal */
  constructor(nodes: Nodes, inSession: InSession, lease: Lease) {
    super(nodes, inSession);
    this.lease = lease;
    this.#close = () => this.close();
    nodes.closing.add(this.#close);
    void renew(this);
    void lease.lost.then((why) => {
      nodes.closing.delete(this.#close);
      inSession.numbers.fail(sessionLost(why));
    });
  }

  /** The TTL in milliseconds, as the cluster has granted it. */
  get ttl(): number {
    return this.lease.ttl;
  }

  /** Whether the session is lost. Reads the clocks: it is right also when the program has just been stopped or suspended. */
  get isLost(): boolean {
    return this.lease.isLost !== undefined;
  }

  /** Settles when the session is lost, and tells why. It never rejects. */
  get lost(): Promise<Lost> {
    return this.lease.lost;
  }

  /** Aborted when the session is lost, with a `SeshatError` of kind `session_lost`: pass it to what relies on the session. */
  get signal(): AbortSignal {
    return this.lease.signal;
  }

  /**
   * Ends the session, and removes the keys that it owns. It is lost at once.
   *
   * @throws SeshatError: the session was lost before, or its end was not acknowledged in time. The cluster ends it at the
   * latest when its TTL has passed.
   */
  close(limits: Limits = {}): Promise<void> {
    this.#closed ??= this.#end(limits);
    return this.#closed;
  }

  async #end(limits: Limits): Promise<void> {
    this.lease.check();
    // Callers have to know it before the cluster does.
    this.lease.lose("closed");
    const { clientId } = this.inSession.numbers;
    await this.nodes.run(limits, async (scope) => {
      const end = (within: Scope) =>
        call(within, "numbered", (node) => node.kv.closeSession({ clientId, ...node.named }, node.limited()));
      await end({ ...scope, cluster: this.inSession.cluster }).catch(async (error: unknown) => {
        // A cluster that was recovered has the session too, until its TTL has passed there.
        if (!isSuccessor(error)) {
          throw error;
        }
        await end(scope);
      });
    });
  }

  /** Ends the session, if it is not lost, and waits until that is done or has failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isLost) {
      await this.close().catch(() => undefined);
    }
  }

  /**
   * Acquires the lock `name`: 1 to 256 bytes. One claim holds it at a time, and the others wait in the order in which they
   * came. Each call is a claim of its own: a session that acquires a lock twice waits for itself. It waits as long as the
   * session lives; `signal` ends it earlier. `Lock` says what may be believed.
   *
   * @throws SeshatError: the lock is not held, and what may have been claimed is released in the background.
   */
  lock(name: string, options: LockOptions = {}): Promise<Lock> {
    return acquire(this, false, name, options);
  }

  /** As {@link lock}, but gives up after `maxWait` milliseconds; by default at once. Resolves to `undefined` then. */
  tryLock(name: string, options: TryLockOptions = {}): Promise<Lock | undefined> {
    return tryAcquire(this, false, name, options);
  }

  /**
   * Stands for election under `name`, and waits until this client leads. An election is the lock of that name: the same is
   * promised. `value` is what observers see then: an address, for example.
   */
  async elect(name: string, value: Bytes, options: Omit<LockOptions, "value"> = {}): Promise<Leadership> {
    return new Leadership(await acquire(this, false, name, { ...options, value }));
  }
}

function isSuccessor(error: unknown): boolean {
  return error instanceof Error && "isSuccessor" in error && error.isSuccessor === true;
}

/** Opens a session. One that a lost attempt has opened is never used. */
export function openSession(nodes: Nodes, limits: Limits): Promise<Session> {
  return nodes.run(limits, async (scope) => {
    const { clientId, cluster } = await open(scope, undefined);
    return new Session(nodes, { numbers: new Numbers(clientId), cluster });
  });
}

/** Opens a living session of `ttl` milliseconds, which the client renews. */
export function openLivingSession(nodes: Nodes, ttl: number, limits: Limits): Promise<LivingSession> {
  return nodes.run(limits, async (scope) => {
    const opened = await open(scope, ttl);
    const lease = new Lease(opened.ttl, nodes.settings.clock, opened.sent);
    const numbers = new Numbers(opened.clientId, () => {
      lease.check();
    });
    return new LivingSession(nodes, { numbers, cluster: opened.cluster }, lease);
  });
}

interface Opened {
  readonly clientId: bigint;
  readonly cluster: bigint | undefined;
  /** When the request was sent. */
  readonly sent: Moment;
  /** The TTL that was granted, in milliseconds. */
  readonly ttl: number;
}

function open(scope: Scope, ttl: number | undefined): Promise<Opened> {
  const asked = ttl === undefined ? {} : { ttl: duration(ttl) };
  // What a lost attempt has opened does no harm, so the call may be repeated like a read.
  return call(scope, "read", async (node) => {
    // Every attempt opens a new session. A late copy of an attempt must not reopen a session that has expired meanwhile: it
    // would not remember the writes that were applied.
    const clientId = randomId();
    const sent = moment(scope.nodes.settings.clock);
    const answer = await node.kv.openSession({ clientId, ...asked, ...node.named }, node.limited());
    if (ttl !== undefined && answer.ttl === undefined) {
      throw new Fault("this node runs an older version, which knows no living sessions", "no", "elsewhere", {
        code: Code.Unimplemented,
      });
    }
    const granted = answer.ttl === undefined ? 0 : durationMs(answer.ttl);
    return { clientId, cluster: node.cluster ?? answer.clusterId, sent, ttl: granted };
  });
}

/** A random id of 64 bits, not 0. */
function randomId(): bigint {
  const id = randomBytes(8).readBigUInt64LE();
  return id === 0n ? randomId() : id;
}
