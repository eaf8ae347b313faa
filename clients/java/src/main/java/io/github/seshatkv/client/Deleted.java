package io.github.seshatkv.client;

/**
 * A removal that is applied.
 *
 * @param existed whether the key was bound before
 * @param revision the revision of the removal
 */
public record Deleted(boolean existed, long revision) implements Reply {}
