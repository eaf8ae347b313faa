package io.github.seshatkv.client;

/** The outcome of an attempt to acquire a lock. Not to get it is no error. */
public sealed interface LockAttempt {
  /** This call holds the lock. */
  record Acquired(Lock lock) implements LockAttempt {}

  /** Another claim holds the lock, and this call was not to wait. */
  record Occupied(Holder holder) implements LockAttempt {}

  /** The lock was not free in time. */
  record TimedOut() implements LockAttempt {}
}
