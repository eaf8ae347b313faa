package io.github.seshatkv.client;

/** The answer to a {@link Command}. */
public sealed interface Reply permits Written, Found, Deleted, TxnOutcome, Reply.Failed {
  /** The command has failed; that has no effect on the others. */
  record Failed(SeshatException error) implements Reply {}
}
