package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Asks many nodes the same harmless question, and takes the first good answer. Belongs to the loop.
 *
 * <p>A node may be dead, cut off or paused, so a search waits for no single one. A node that fails
 * makes the next one's turn come at once; so does a node that names the leader. It is asked again
 * after pauses that grow. An address that refuses twice is connected anew, and every address of its
 * name is asked too.
 *
 * @param <T> the answer
 */
final class Search<T> {
  /** The pause between the first question to one node and the first to the next. */
  static final long STAGGER = TimeUnit.MILLISECONDS.toNanos(20);

  private static final int MAX_NODES = 128;

  /** Refusals from which an address is connected anew. */
  private static final int CONNECT_ANEW = 2;

  /** How often the only endpoint is asked before the pauses grow: behind it may be many nodes. */
  private static final int QUICK_CONNECTS = 16;

  /** How often an address is asked where another cluster answers. */
  private static final int MAX_FOREIGN = 4;

  /** The answer, and the node that gave it. */
  record Answer<T>(Node node, T value) {}

  private final Shared shared;
  private final Purpose purpose;
  private final long deadline;
  private final long timeout;
  private final Function<Node, CompletableFuture<T>> ask;
  private final Map<String, Candidate> candidates = new LinkedHashMap<>();
  private final CompletableFuture<Answer<T>> result = new CompletableFuture<>();
  private int lookups;

  /** A search until {@code deadline}; {@code timeout} is only for the message of its error. */
  Search(
      Shared shared,
      Purpose purpose,
      long deadline,
      long timeout,
      Function<Node, CompletableFuture<T>> ask) {
    this.shared = shared;
    this.purpose = purpose;
    this.deadline = deadline;
    this.timeout = timeout;
    this.ask = ask;
  }

  /** Asks all endpoints, the one at {@code last} after the others. */
  Search<T> endpoints(String last) {
    List<String> order = new ArrayList<>(shared.nodes().endpoints());
    Collections.shuffle(order);
    long due = Loop.now();
    for (String address : order) {
      boolean isLast = address.equals(last) && order.size() > 1;
      if (insert(address, due + (isLast ? shared.options().attemptTimeout() : 0))) {
        due += Backoff.jittered(STAGGER, shared.random());
      }
    }
    return this;
  }

  /** Asks these addresses too, after all others. */
  Search<T> also(List<String> addresses) {
    long due = Loop.now() + STAGGER * candidates.size();
    for (String address : addresses) {
      if (insert(address, due)) {
        due += Backoff.jittered(STAGGER, shared.random());
      }
    }
    return this;
  }

  /** Asks the node at this address now, unless it was asked already. */
  Search<T> add(String address) {
    insert(address, Loop.now());
    Candidate candidate = candidates.get(address);
    if (candidate != null) {
      candidate.hurry();
    }
    return this;
  }

  private boolean insert(String address, long due) {
    if (result.isDone() || candidates.containsKey(address) || candidates.size() >= MAX_NODES) {
      return false;
    }
    Candidate candidate = new Candidate(address);
    candidates.put(address, candidate);
    candidate.schedule(due);
    return true;
  }

  /** The first answer. Fails with a SeshatException. To cancel it ends the search. */
  CompletableFuture<Answer<T>> run() {
    Future<?> timer = shared.loop().at(deadline, () -> result.completeExceptionally(tooLate()));
    result.whenComplete(
        (value, error) -> {
          timer.cancel(false);
          candidates.values().forEach(Candidate::stop);
        });
    return result;
  }

  private SeshatException tooLate() {
    return tooLate(timeout, lastWords());
  }

  /** The error of a call whose deadline passed while nothing was sent that may have an effect. */
  static SeshatException tooLate(long timeout, Map<String, CallError> faults) {
    String within = " within " + TimeUnit.NANOSECONDS.toMillis(timeout) + " ms: ";
    for (CallError fault : faults.values()) {
      if (fault.answered()) {
        return SeshatException.of(
            SeshatException.Kind.DEADLINE,
            fault.notApplied(),
            "the cluster did not serve the request" + within + byReason(faults));
      }
    }
    return SeshatException.of(
        SeshatException.Kind.UNREACHABLE,
        Applied.NO,
        "the cluster cannot be reached" + within + byReason(faults));
  }

  private SeshatException noNodeServes() {
    Map<String, CallError> faults = lastWords();
    return SeshatException.of(
        SeshatException.Kind.UNSERVED,
        faults.values().iterator().next().notApplied(),
        "no node serves the request: " + byReason(faults));
  }

  /** The last fault of each node. One without any did not answer in time. */
  private Map<String, CallError> lastWords() {
    Map<String, CallError> words = new TreeMap<>();
    candidates.forEach(
        (address, candidate) ->
            words.put(
                address, candidate.lastWord == null ? CallError.silence() : candidate.lastWord));
    return words;
  }

  /** The faults as text, with the nodes of equal faults together. */
  private static String byReason(Map<String, CallError> faults) {
    Map<String, List<String>> nodes = new TreeMap<>();
    faults.forEach(
        (address, fault) ->
            nodes.computeIfAbsent(fault.getMessage(), key -> new ArrayList<>()).add(address));
    List<String> reasons = new ArrayList<>();
    nodes.forEach((reason, addresses) -> reasons.add(String.join(", ", addresses) + ": " + reason));
    return String.join("; ", reasons);
  }

  /** Makes the turn of the leader that {@code fault} names come, or else that of the next node. */
  private void hurry(CallError fault) {
    var leader = fault.leaderAddress().flatMap(Endpoints::parse);
    if (leader.isPresent()) {
      add(leader.get());
      return;
    }
    for (Candidate candidate : candidates.values()) {
      if (candidate.hurry()) {
        return;
      }
    }
  }

  /** Asks every address of the name in {@code address}. */
  private void resolve(String address) {
    lookups++;
    CompletableFuture.supplyAsync(() -> addresses(address))
        .whenCompleteAsync(
            (found, error) -> {
              lookups--;
              if (found != null && found.size() > 1) {
                also(found);
              }
              giveUp();
            },
            shared.loop());
  }

  private static List<String> addresses(String endpoint) {
    List<String> addresses = new ArrayList<>();
    try {
      for (InetAddress ip : InetAddress.getAllByName(Endpoints.host(endpoint))) {
        String text = ip.getHostAddress();
        String host = text.contains(":") ? "[" + text + "]" : text;
        addresses.add(host + ":" + Endpoints.port(endpoint));
      }
    } catch (UnknownHostException unknown) {
      // The connection tells.
    }
    return addresses;
  }

  /** Ends the search if no node is left to ask. */
  private void giveUp() {
    if (lookups == 0 && candidates.values().stream().allMatch(it -> it.isOver)) {
      result.completeExceptionally(noNodeServes());
    }
  }

  /** A node that is asked until it answers. */
  private final class Candidate {
    private final String address;
    private long pause = shared.options().backoff().first();
    private long attemptTimeout = shared.options().attemptTimeout();
    private int refusals;
    private int foreign;
    private boolean wasAsked;
    private boolean isOver;
    private CallError lastWord;
    private Future<?> turn;
    private CompletableFuture<T> asked;

    Candidate(String address) {
      this.address = address;
    }

    void schedule(long due) {
      turn = shared.loop().at(due, this::ask);
    }

    /** Makes its first turn come at once. Returns whether it has not had it yet. */
    boolean hurry() {
      if (wasAsked || result.isDone()) {
        return false;
      }
      turn.cancel(false);
      wasAsked = true;
      shared.loop().execute(this::ask);
      return true;
    }

    void stop() {
      turn.cancel(false);
      if (asked != null) {
        asked.cancel(true);
      }
    }

    private void ask() {
      if (result.isDone()) {
        return;
      }
      wasAsked = true;
      Node connected = shared.nodes().node(purpose, address, deadline);
      // Not before: the first connection of a program may take long to make.
      Node node = connected.until(Loop.earlier(deadline, Loop.after(attemptTimeout)));
      CompletableFuture<T> answer = Search.this.ask.apply(node);
      asked = answer;
      answer.whenComplete(
          (value, error) -> {
            if (error == null) {
              result.complete(new Answer<>(node, value));
            } else if (!result.isDone()) {
              failed(node, CallError.of(error));
            }
          });
    }

    private void failed(Node node, CallError fault) {
      shared.nodes().note(node, fault);
      if (fault.sendsElsewhere() && ++refusals >= CONNECT_ANEW) {
        shared.nodes().drop(node);
      }
      if (fault.retry() == Retry.NOWHERE) {
        result.completeExceptionally(fault.ended(address));
        return;
      }
      // At the deadline the fault is only an attempt that was cut short: an earlier one says more.
      if (lastWord == null || !Loop.passed(deadline)) {
        lastWord = fault;
      }
      foreign += fault.is(Reason.OTHER_CLUSTER) ? 1 : 0;
      isOver = fault.retry() != Retry.LATER || foreign >= MAX_FOREIGN;
      Search.this.hurry(fault);
      if (refusals == CONNECT_ANEW) {
        resolve(address);
      }
      if (isOver) {
        giveUp();
      } else {
        postpone(fault);
      }
    }

    private void postpone(CallError fault) {
      schedule(Loop.after(Backoff.jittered(pause, shared.random())));
      boolean isAlone = shared.nodes().endpoints().size() == 1;
      boolean isQuick = isAlone && fault.leaderAddress().isPresent() && refusals <= QUICK_CONNECTS;
      if (!isQuick) {
        pause = shared.options().backoff().longer(pause);
      }
      if (fault.silent()) {
        attemptTimeout *= 2;
      }
    }
  }
}
