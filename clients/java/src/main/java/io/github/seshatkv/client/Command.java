package io.github.seshatkv.client;

/** A command of a {@link Pipeline}: an {@link Operation}, or a whole {@link Txn}. */
public sealed interface Command permits Operation, Txn {
  /** Whether a command may change anything. */
  static boolean isWrite(Command command) {
    return command instanceof Txn txn ? txn.isWrite() : !(command instanceof Operation.Get);
  }
}
