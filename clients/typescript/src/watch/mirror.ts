// A copy of a range that follows its changes.

import { type Bytes, keyString, toBytes } from "../bytes.js";
import type { Entry } from "../entries.js";
import { invalid, type SeshatError } from "../errors.js";
import type { Event, Position, Update } from "./update.js";
import type { Watch } from "./watch.js";

/**
 * A copy of a range of keys that follows its changes: see `Client.mirror`. It shows the range as it was at one
 * {@link position}, at any time: while a new state arrives, it shows the former one. It does not change between two calls of
 * {@link changed}.
 */
export class Mirror implements AsyncDisposable {
  readonly #watch: Watch;
  readonly #copy = new Copy();
  #disconnected: SeshatError | undefined;

  private constructor(watch: Watch) {
    this.#watch = watch;
  }

  /** @internal A mirror, once it is complete. */
  static async of(watch: Watch): Promise<Mirror> {
    const mirror = new Mirror(watch);
    try {
      while (mirror.#copy.position === undefined) {
        await mirror.#follow();
        if (mirror.#disconnected !== undefined) {
          throw mirror.#disconnected;
        }
      }
    } catch (error) {
      watch.close();
      throw error;
    }
    return mirror;
  }

  /**
   * Waits until a key has changed, and shows the range as it is then. Resolves at a later moment without having shown every
   * change in between, if several have come.
   *
   * @throws SeshatError: the watch has ended. What the mirror shows stays as it is.
   */
  async changed(): Promise<void> {
    while (!(await this.#follow())) {
      // Nothing that is shown has changed.
    }
  }

  /** The entry of `key`, if it is bound. */
  get(key: Bytes): Entry | undefined {
    return this.#copy.shown.get(keyString(toBytes(key)));
  }

  /** The number of keys. */
  get size(): number {
    return this.#copy.shown.size;
  }

  /** All entries, in ascending order of their keys. */
  entries(): Entry[] {
    const sorted = [...this.#copy.shown].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.map(([, entry]) => entry);
  }

  /** The moment that it shows. */
  get position(): Position {
    return this.#copy.position ?? { clusterId: 0n, revision: 0n };
  }

  /** Why no node serves the watch at the moment, so that what it shows gets old. Known while {@link changed} waits. */
  get disconnected(): SeshatError | undefined {
    return this.#disconnected;
  }

  /** Ends the watch. */
  close(): void {
    this.#watch.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** Takes the next news. Returns whether something has changed. */
  async #follow(): Promise<boolean> {
    const next = await this.#watch.next();
    if (next.done === true) {
      throw invalid("the watch has ended");
    }
    if (next.value.type === "disconnected") {
      this.#disconnected = next.value.error;
      return false;
    }
    this.#disconnected = undefined;
    return this.#copy.apply(next.value);
  }
}

/** The map of a mirror. */
export class Copy {
  /** The range at `position`. */
  shown = new Map<string, Entry>();
  position: Position | undefined;
  /** What the state has brought since, until it is complete, and whether it takes the place of all that is shown. */
  #coming: { resets: boolean; changes: Map<string, Entry | undefined> } | undefined;

  /** Returns whether what is shown has changed. */
  apply(update: Update): boolean {
    switch (update.type) {
      case "reset":
        this.#coming = { resets: true, changes: new Map() };
        return false;
      case "state":
        this.#coming ??= { resets: false, changes: new Map() };
        for (const entry of update.entries) {
          this.#coming.changes.set(keyString(entry.key), entry);
        }
        for (const key of update.deleted) {
          this.#coming.changes.set(keyString(key), undefined);
        }
        return false;
      case "synced":
        this.position = update.position;
        return this.#show();
      case "events":
        this.#advance(update.revision);
        return update.events.map((event) => this.#event(event)).includes(true);
      case "progress":
        this.#advance(update.revision);
        return false;
      case "disconnected":
        return false;
    }
  }

  #advance(revision: bigint): void {
    if (this.position !== undefined) {
      this.position = { ...this.position, revision };
    }
  }

  #show(): boolean {
    const coming = this.#coming;
    this.#coming = undefined;
    if (coming === undefined) {
      return false;
    }
    let changed = false;
    if (coming.resets) {
      for (const key of [...this.shown.keys()].filter((key) => coming.changes.get(key) === undefined)) {
        changed = this.#set(key, undefined) || changed;
      }
    }
    for (const [key, entry] of coming.changes) {
      changed = this.#set(key, entry) || changed;
    }
    return changed;
  }

  #event(event: Event): boolean {
    return event.type === "set"
      ? this.#set(keyString(event.entry.key), event.entry)
      : this.#set(keyString(event.key), undefined);
  }

  #set(key: string, entry: Entry | undefined): boolean {
    if (entry === undefined) {
      return this.shown.delete(key);
    }
    const before = this.shown.get(key);
    this.shown.set(key, entry);
    return before?.revision !== entry.revision;
  }
}
