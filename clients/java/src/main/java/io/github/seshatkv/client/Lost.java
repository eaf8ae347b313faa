package io.github.seshatkv.client;

/** Why a living session is lost. */
public enum Lost {
  /** No renewal was answered for 90 % of its TTL. */
  NOT_RENEWED("it could not be renewed in time"),
  /** The cluster has ended it, or an operator has recovered another cluster from its own. */
  ENDED("the cluster has ended it"),
  /** It was closed, or its client was. */
  CLOSED("it was closed");

  private final String words;

  Lost(String words) {
    this.words = words;
  }

  @Override
  public String toString() {
    return words;
  }
}
