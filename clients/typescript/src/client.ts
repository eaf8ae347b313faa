// The client: endpoints in, answers out.

import { type Bytes } from "./bytes.js";
import { call, probe } from "./call.js";
import { acquire, type LockOptions, tryAcquire, type TryLockOptions } from "./acquire.js";
import { endpoints } from "./endpoints.js";
import { KeyRange } from "./key_range.js";
import { Leadership, type Lock } from "./lock.js";
import { inspectLock, type LockInfo, locks } from "./lock_list.js";
import { type Limits, Nodes } from "./nodes.js";
import { Holders } from "./observe.js";
import { Pipeline, type PipelineOptions } from "./pipeline.js";
import { Scan, type ScanOptions } from "./scan.js";
import { type LivingSession, openLivingSession, openSession, type Session } from "./session.js";
import { type ClientOptions, settings } from "./settings.js";
import { Mirror } from "./watch/mirror.js";
import { Watch, type WatchOptions } from "./watch/watch.js";
import { Keys } from "./writes.js";

/** The TTL of the session that a lock has for itself, in milliseconds, unless the program wants another one. */
const LOCK_TTL_MS = 10_000;

/** The options of a lock with a session of its own. */
interface OwnSession {
  /** The TTL of the session that the lock has for itself: 2 s to 1 h, in milliseconds. Default: 10 000. */
  ttl?: number;
}

/**
 * A client of one cluster. It finds the leader and follows it, every call has one deadline for everything that it does, and a
 * `SeshatError` always says whether a write may have been applied.
 *
 * A client is for one event loop (a worker thread makes its own), and all of its calls may run at the same time. An idle client
 * does not keep the process alive; a call, a watch whose news are waited for, and a living session do. {@link close} ends all.
 */
export class Client extends Keys {
  /**
   * A client of the cluster that has nodes at `nodes`, each `host:port`, as a list or with commas. One that answers is
   * enough: it names the leader. It connects on first use.
   *
   * @throws SeshatError of kind `invalid`: there is no endpoint, or one is not of the form `host:port`.
   */
  constructor(nodes: string | readonly string[], options: ClientOptions = {}) {
    super(new Nodes(endpoints(nodes), settings(options)));
  }

  /** The id of the cluster that this client belongs to, once a node of it has answered. */
  get clusterId(): bigint | undefined {
    return this.nodes.cluster;
  }

  /**
   * Waits until a leader serves requests, which is the case once the cluster has formed.
   *
   * @throws SeshatError: no leader served in time.
   */
  async ready(limits: Limits = {}): Promise<void> {
    await this.nodes.run(limits, (scope) => call(scope, "read", probe));
  }

  /** The keys of a range, or those that begin with a prefix, in ascending order and all of one moment. See {@link Scan}. */
  scan(keys: Bytes | KeyRange, options: ScanOptions = {}): Scan {
    return new Scan(this.nodes, KeyRange.from(keys), options);
  }

  /**
   * The number of keys of a range, or of those that begin with a prefix. Only the number is sent.
   *
   * @throws SeshatError: the keys could not be counted.
   */
  count(keys: Bytes | KeyRange, options: Omit<ScanOptions, "keysOnly"> = {}): Promise<bigint> {
    return this.scan(keys, options).count();
  }

  /**
   * Watches a range, or the keys that begin with a prefix: first the state, then every change of it, in the order of revisions,
   * without a gap or a repetition. See {@link Watch}.
   */
  watch(keys: Bytes | KeyRange, options: WatchOptions = {}): Watch {
    return new Watch(this.nodes, KeyRange.from(keys), options);
  }

  /**
   * A copy of a range that follows its changes, once it is complete.
   *
   * @throws SeshatError: no node has served the watch within the timeout of the client, or none ever will.
   */
  mirror(keys: Bytes | KeyRange, options: Omit<WatchOptions, "resume"> = {}): Promise<Mirror> {
    return Mirror.of(this.watch(keys, options));
  }

  /**
   * Opens a session: each of its writes is applied once, however often it has to be sent. With a `ttl` in milliseconds, 2000
   * to 3 600 000, it is a living one, which the client renews: 10 000 is a good choice, and below 5000 an election may cost the
   * session.
   *
   * @throws SeshatError: no session was opened in time. One that a lost attempt has opened is never used.
   */
  session(options: Limits & { ttl: number }): Promise<LivingSession>;
  session(options?: Limits): Promise<Session>;
  session({ ttl, ...limits }: Limits & { ttl?: number } = {}): Promise<Session> {
    return ttl === undefined ? openSession(this.nodes, limits) : openLivingSession(this.nodes, ttl, limits);
  }

  /**
   * Acquires the lock `name` with a living session of its own, which ends with the lock: see `LivingSession.lock`. To hold
   * several locks, or to own keys, open one session for all of them.
   *
   * @throws SeshatError: the lock is not held.
   */
  async lock(name: string, { ttl = LOCK_TTL_MS, ...options }: LockOptions & OwnSession = {}): Promise<Lock> {
    return acquire(await this.session({ ttl, ...limits(options) }), true, name, options);
  }

  /** As {@link lock}, but gives up after `maxWait` milliseconds; by default at once. Resolves to `undefined` then. */
  async tryLock(
    name: string,
    { ttl = LOCK_TTL_MS, ...options }: TryLockOptions & OwnSession = {},
  ): Promise<Lock | undefined> {
    return tryAcquire(await this.session({ ttl, ...limits(options) }), true, name, options);
  }

  /** Stands for election with a living session of its own, which ends with the leadership: see `LivingSession.elect`. */
  async elect(name: string, value: Bytes, options: Omit<LockOptions, "value"> & OwnSession = {}): Promise<Leadership> {
    return new Leadership(await this.lock(name, { ...options, value }));
  }

  /** Observes who holds the lock `name`, or who leads under that name: first the present state, then every change. */
  observe(name: string, options: { signal?: AbortSignal } = {}): Holders {
    return new Holders(this.nodes, name, options.signal);
  }

  /** Reads who holds the lock `name`. The lock may have another holder when the answer arrives. */
  inspectLock(name: string, limits: Limits = {}): Promise<LockInfo> {
    return inspectLock(this.nodes, name, limits);
  }

  /** The locks that are held, in ascending order of their names, in pages of 1000. */
  locks(limits: Limits = {}): Promise<LockInfo[]> {
    return locks(this.nodes, limits);
  }

  /**
   * Opens a stream that keeps many commands in flight.
   *
   * @throws SeshatError: no leader was found in time.
   */
  pipeline(options: PipelineOptions & Limits = {}): Promise<Pipeline> {
    return Pipeline.open(this.nodes, undefined, options);
  }

  /**
   * Ends all living sessions, and with them all locks, as well as that can be done within the timeout of the client; then all
   * calls, watches and connections. The client is of no use afterwards.
   */
  close(): Promise<void> {
    return this.nodes.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function limits({ timeout, signal }: Limits): Limits {
  return { timeout, signal };
}
