package io.github.seshatkv.client;

/**
 * Where a watch stands: the caller's map equals the range at this revision of this cluster. May be
 * kept, with the map, to go on later: {@link WatchCall#resume}.
 *
 * @param cluster the cluster
 * @param revision the revision
 */
public record Position(long cluster, long revision) {}
