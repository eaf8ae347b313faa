package io.github.seshatkv.client;

/**
 * A write that is applied.
 *
 * @param revision its revision: later writes have higher ones
 */
public record Written(long revision) implements Reply {}
