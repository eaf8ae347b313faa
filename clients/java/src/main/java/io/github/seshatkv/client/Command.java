package io.github.seshatkv.client;

/** A command of a {@link Pipeline}: an {@link Operation}, or a whole {@link Txn}. */
public sealed interface Command permits Operation, Txn {}
