package io.github.seshatkv.client;

/** Whether, and where, a failed request may succeed. */
enum Retry {
  /** Possibly later: the cluster may recover. */
  LATER,
  /** Not at this endpoint, but possibly at another one. */
  ELSEWHERE,
  /** Nowhere: the request itself is at fault. */
  NOWHERE
}
