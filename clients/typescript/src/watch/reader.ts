// The reader of a watch: at one node after the other, for as long as the caller likes.
//
// Every node that takes part in the cluster serves watches. The reader takes the first one that answers, in a random order, so
// that watches spread over the nodes. When it loses the connection, or nothing comes for three progress intervals, it says
// elsewhere where its caller stands, and goes on from there.
//
// A node of another cluster does not refuse a watch: it sends a reset and its own state. So the reader asks a node that
// resets for its cluster, before the caller is told to forget anything. The successor of the cluster is accepted as it is by
// calls. An unrelated cluster is accepted only if no node of the former one answers, because it has formed anew then; and not
// if the client was told its cluster.

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { attempt } from "../attempt.js";
import { clusters } from "../clusters.js";
import { SeshatError } from "../errors.js";
import { Fault } from "../fault.js";
import type { WatchResponse } from "../gen/seshat/kv/v1/watch_pb.js";
import type { KeyRange } from "../key_range.js";
import type { Node, Nodes, Scope } from "../nodes.js";
import { Search } from "../search.js";
import { Stream } from "../stream.js";
import { longer, now, sleep } from "../time.js";
import { Assembly } from "./assembly.js";
import type { Position, Update } from "./update.js";

/** Silent intervals after which a connection counts as lost. */
const SILENT_INTERVALS = 3;

/** Shortest time for which nodes are asked before the caller is told that none serves. */
const SHORTEST_OUTAGE_MS = 1_000;

/** What is watched. */
export interface Query {
  readonly range: KeyRange;
  readonly keysOnly: boolean;
  /** In milliseconds. */
  readonly progressInterval: number;
}

/** The messages of one node. */
interface Connection {
  readonly stream: Stream<WatchResponse>;
  first: WatchResponse | undefined;
  /** The cluster of the node, if it has to be a certain one. */
  cluster: bigint | undefined;
}

/** Reads message after message. */
export class Reader {
  readonly #assembly: Assembly;
  /** The cluster of the last complete state. */
  #cluster: bigint | undefined;
  /** Whether any cluster is accepted, because none of the nodes belongs to that one any more. */
  #anyCluster = false;
  #connection: Connection | undefined;
  /** The node whose connection was lost. */
  #lost: string | undefined;
  #pause: number;
  /** Whether the caller knows of the present outage. */
  #outageTold = false;

  constructor(
    readonly nodes: Nodes,
    readonly query: Query,
    resume: Position | undefined,
    floor: bigint,
  ) {
    this.#assembly = new Assembly(resume, floor);
    this.#cluster = resume?.clusterId;
    this.#pause = nodes.settings.backoff.min;
  }

  get position(): Position | undefined {
    return this.#assembly.position;
  }

  /** The next news. */
  async update(signal: AbortSignal): Promise<Update> {
    for (;;) {
      if (this.#connection === undefined) {
        const outage = await this.#reconnect(signal);
        if (outage !== undefined) {
          return outage;
        }
        continue;
      }
      try {
        const update = await this.#receive(this.#connection, signal);
        if (update !== undefined) {
          return update;
        }
      } catch (error) {
        signal.throwIfAborted();
        await this.#lose(this.#connection, error as Fault, signal);
      }
    }
  }

  /** Returns the news of an outage that the caller does not know yet. */
  async #reconnect(signal: AbortSignal): Promise<Update | undefined> {
    try {
      this.#connection = await this.#connect(signal);
      this.#connection.stream.endWith(signal);
      return undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SeshatError)) {
        throw error;
      }
      if (!this.#anyCluster && (await this.#isReplaced(signal))) {
        this.#anyCluster = true;
        return undefined;
      }
      if (error.kind === "refused" || error.kind === "unserved" || error.kind === "invalid") {
        throw error;
      }
      if (this.#outageTold) {
        return undefined;
      }
      this.#outageTold = true;
      return { type: "disconnected", error };
    }
  }

  /** Whether every node that answers belongs to another cluster than the watch, as after a loss of all data. */
  async #isReplaced(signal: AbortSignal): Promise<boolean> {
    const ours = this.#knownCluster;
    if (this.nodes.settings.cluster !== undefined || ours === undefined) {
      return false;
    }
    const found = await clusters(this.nodes, signal);
    return found.size > 0 && !found.has(ours);
  }

  /** The cluster that the watch belongs to. */
  get #knownCluster(): bigint | undefined {
    return this.#cluster ?? this.nodes.cluster;
  }

  /** Connects to any node that serves. */
  #connect(signal: AbortSignal): Promise<Connection> {
    const timeout = Math.max(this.nodes.settings.timeout, SHORTEST_OUTAGE_MS);
    return this.nodes.run({ signal, timeout }, async (scope: Scope) => {
      const search = new Search(this.nodes, scope, "watches", (node) => this.#open(node));
      search.askEndpoints(this.#lost);
      search.also(this.nodes.connected());
      return (await search.run(scope.deadline)).answer;
    });
  }

  /** Begins a watch at `node`, and waits for its first message. */
  async #open(node: Node): Promise<Connection> {
    const { stream, first } = await Stream.open(node, node.kv.watch(this.#request(), node.openEnded()));
    if (first.message.case === "reset") {
      return { stream, first, cluster: await this.#clusterOf(node) };
    }
    const { position } = this;
    if (position === undefined) {
      throw Fault.broken("a watch begins without a reset");
    }
    return { stream, first, cluster: position.clusterId };
  }

  #request() {
    const { position } = this;
    return {
      range: this.query.range.message,
      ...(position === undefined ? {} : { clusterId: position.clusterId }),
      afterRevision: position?.revision ?? 0n,
      minRevision: this.#assembly.floor,
      keysOnly: this.query.keysOnly,
      progressInterval: durationFromMs(this.query.progressInterval),
    };
  }

  /**
   * The cluster of `node`, whose state is about to take the place of what the caller has. Absent: any cluster is accepted.
   *
   * @throws Fault: the node takes part in another cluster than the one that this watch belongs to, or does not answer.
   */
  async #clusterOf(node: Node): Promise<bigint | undefined> {
    const known = this.#anyCluster ? undefined : this.#knownCluster;
    if (known === undefined) {
      return undefined;
    }
    try {
      // A node of this cluster refuses at once that there is no key.
      await node.kv.get({ key: new Uint8Array(), clusterId: known }, node.limited());
      return known;
    } catch (error) {
      const fault = Fault.from(error);
      if (fault.detail?.reason.case === "invalidRequest") {
        return known;
      }
      const { successor } = fault;
      if (successor === undefined || !this.nodes.settings.follows) {
        throw fault;
      }
      this.nodes.note(node.with({ cluster: known }), fault);
      return successor;
    }
  }

  /**
   * Takes the next message. Returns what the caller is to be told, if anything.
   *
   * @throws Fault: the connection is lost.
   */
  async #receive(connection: Connection, signal: AbortSignal): Promise<Update | undefined> {
    const silence = this.query.progressInterval * SILENT_INTERVALS;
    let message = connection.first;
    connection.first = undefined;
    if (message === undefined) {
      message = await connection.stream.next(silence);
      if (message.message.case === "reset") {
        const asking = connection.stream.node.with({ deadline: now() + silence, controller: new AbortController() });
        connection.cluster = await attempt(asking, signal, (node) => this.#clusterOf(node));
      }
    }
    if (message.message.case === "synced") {
      this.#belongs(connection, message.message.value.clusterId);
    }
    const update = this.#assembly.add(message);
    if (update?.type === "synced") {
      this.#outageTold = false;
    }
    return update;
  }

  /**
   * Notes that a complete state has come from the cluster `id`.
   *
   * @throws Fault: the watch belongs to another cluster.
   */
  #belongs(connection: Connection, id: bigint): void {
    const learned = connection.cluster === undefined && !this.#anyCluster;
    const expected = learned ? this.nodes.learn(id) : connection.cluster;
    if (expected !== undefined && expected !== id) {
      throw Fault.broken("the node has changed its cluster");
    }
    this.#cluster = id;
    this.#anyCluster = false;
  }

  /** Drops a connection, and waits before the next one. */
  async #lose({ stream }: Connection, fault: Fault, signal: AbortSignal): Promise<void> {
    const { backoff } = this.nodes.settings;
    stream.end();
    this.#connection = undefined;
    this.nodes.note(stream.node, fault);
    if (fault.sendsElsewhere) {
      this.nodes.dialAnew(stream.node);
    }
    this.#assembly.cutOff();
    this.#lost = stream.node.address;
    if (now() - stream.begun > backoff.max) {
      this.#pause = backoff.min;
    }
    const pause = this.nodes.jittered(this.#pause);
    this.#pause = longer(backoff, this.#pause);
    await sleep(pause, signal);
  }
}
