// The numbers of a session's writes, and which of them are outstanding.
//
// A number is given once. It is outstanding while a caller waits for its answer, and ends when that came, or the caller has
// given up: the session moves past it, and a node refuses a copy of that write that is still in flight.
//
// Numbers are given first come, first served: a batch needs room for all of its writes at once, and would starve if
// single writes took every gap before it.

import { create } from "@bufbuild/protobuf";
import { type Session, SessionSchema } from "./gen/seshat/kv/v1/kv_service_pb.js";
import { onAbort, reasonOf } from "./time.js";

/** Numbers that may be outstanding: a node refuses more. */
export const MAX_OUTSTANDING = 1_024;

interface Waiter {
  readonly count: number;
  readonly give: (numbers: Numbered[]) => void;
  readonly fail: (error: Error) => void;
}

/** Gives the numbers of one session. */
export class Numbers {
  #next = 1n;
  /** In ascending order, as numbers are added in that order. */
  readonly #outstanding = new Set<bigint>();
  readonly #waiting: Waiter[] = [];

  /** `holds` throws if the session is lost. */
  constructor(
    readonly clientId: bigint,
    readonly holds: () => void = () => undefined,
  ) {}

  /** The session field of a request about the write with the number `sequence`, if it is sent now. */
  stamp(sequence: bigint): Session {
    const [first = this.#next] = this.#outstanding;
    const firstOutstanding = first < sequence ? first : sequence;
    return create(SessionSchema, { clientId: this.clientId, sequence, firstOutstanding });
  }

  /**
   * The next `count` numbers, at most {@link MAX_OUTSTANDING}. Waits until so many may be outstanding, and until every
   * earlier caller has its numbers or waits no longer.
   *
   * @throws SeshatError if the session is lost; the reason of `signal` if that is aborted.
   */
  async next(count: number, signal: AbortSignal): Promise<Numbered[]> {
    this.holds();
    if (this.#waiting.length === 0 && this.#hasRoom(count)) {
      return this.#give(count);
    }
    return this.#turn(count, signal);
  }

  /** The session is lost: callers that wait get `error`. */
  fail(error: Error): void {
    for (const waiter of this.#waiting.splice(0)) {
      waiter.fail(error);
    }
  }

  #turn(count: number, signal: AbortSignal): Promise<Numbered[]> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        count,
        give: (numbers) => {
          forget();
          resolve(numbers);
        },
        fail: (error) => {
          forget();
          reject(error);
        },
      };
      this.#waiting.push(waiter);
      const forget = onAbort(signal, () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(reasonOf(signal));
        this.#serve();
      });
    });
  }

  #hasRoom(count: number): boolean {
    const [first = this.#next] = this.#outstanding;
    return this.#next + BigInt(count) <= first + BigInt(MAX_OUTSTANDING);
  }

  #give(count: number): Numbered[] {
    return Array.from({ length: count }, () => {
      const sequence = this.#next;
      this.#next += 1n;
      this.#outstanding.add(sequence);
      return {
        sequence,
        stamp: () => this.stamp(sequence),
        end: () => {
          if (this.#outstanding.delete(sequence)) {
            this.#serve();
          }
        },
      };
    });
  }

  #serve(): void {
    for (;;) {
      const [first] = this.#waiting;
      if (first === undefined || !this.#hasRoom(first.count)) {
        return;
      }
      this.#waiting.shift();
      first.give(this.#give(first.count));
    }
  }
}

/** The number of a write, outstanding until it is ended. */
export interface Numbered {
  readonly sequence: bigint;
  /** The session field of a write with this number, if it is sent now. */
  stamp(): Session;
  /** No caller waits for the answer any more. */
  end(): void;
}
