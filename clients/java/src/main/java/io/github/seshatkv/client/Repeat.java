package io.github.seshatkv.client;

/** Whether a failed attempt may be repeated. */
enum Repeat {
  /** Always: it changes nothing. */
  READ,
  /** Always: its effect is the same however often it arrives. */
  NUMBERED,
  /** Only if it was surely not applied. */
  ONCE
}
