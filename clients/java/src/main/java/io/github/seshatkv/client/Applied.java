package io.github.seshatkv.client;

/** Whether a write may have been applied. */
public enum Applied {
  /** Surely not applied, now or later: to repeat the call is safe. Always so for a read. */
  NO,
  /** It may have been applied, or may yet be: to repeat the call may apply it twice. */
  UNKNOWN
}
