package io.github.seshatkv.conformance;

import com.google.protobuf.ByteString;
import io.github.seshatkv.client.Client;
import io.github.seshatkv.client.Conditional;
import io.github.seshatkv.client.Found;
import io.github.seshatkv.client.Holder;
import io.github.seshatkv.client.Holders;
import io.github.seshatkv.client.KeyRange;
import io.github.seshatkv.client.LivingSession;
import io.github.seshatkv.client.Lock;
import io.github.seshatkv.client.LockAttempt;
import io.github.seshatkv.client.LockCall;
import io.github.seshatkv.client.Pipeline;
import io.github.seshatkv.client.Reply;
import io.github.seshatkv.client.SeshatException;
import io.github.seshatkv.client.Session;
import io.github.seshatkv.client.SetCall;
import io.github.seshatkv.client.Txn;
import io.github.seshatkv.client.TxnOutcome;
import io.github.seshatkv.client.Update;
import io.github.seshatkv.client.Watch;
import io.github.seshatkv.proto.conformance.v1.Acquired;
import io.github.seshatkv.proto.conformance.v1.Answers;
import io.github.seshatkv.proto.conformance.v1.Caller;
import io.github.seshatkv.proto.conformance.v1.Connect;
import io.github.seshatkv.proto.conformance.v1.Done;
import io.github.seshatkv.proto.conformance.v1.HolderIs;
import io.github.seshatkv.proto.conformance.v1.NotAcquired;
import io.github.seshatkv.proto.conformance.v1.NotHeld;
import io.github.seshatkv.proto.conformance.v1.OpenSession;
import io.github.seshatkv.proto.conformance.v1.Operation;
import io.github.seshatkv.proto.conformance.v1.OperationResult;
import io.github.seshatkv.proto.conformance.v1.Request;
import io.github.seshatkv.proto.conformance.v1.Response;
import io.github.seshatkv.proto.conformance.v1.Scan;
import io.github.seshatkv.proto.conformance.v1.Scanned;
import io.github.seshatkv.proto.conformance.v1.SessionOpened;
import io.github.seshatkv.proto.conformance.v1.TxnDone;
import io.github.seshatkv.proto.conformance.v1.Written;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/** What the runner asks for, done by the client. */
final class Actions {
  private final Handles handles = new Handles();
  private final Convert convert = new Convert(handles);

  Response.Builder perform(Request request)
      throws InterruptedException, ReflectiveOperationException, IOException {
    Response.Builder response = Response.newBuilder();
    switch (request.getActionCase()) {
      case ECHO -> response.setEchoed(Echo.echo(request.getEcho()));
      case CONNECT -> connect(request.getConnect());
      case CLOSE -> close(request.getClose().getHandle());
      case GET -> {
        ByteString key = request.getGet().getKey();
        Found found = caller(request.getGet().getCaller()).getWithRevision(key);
        return response.setGot(Convert.got(key, found));
      }
      case SET -> {
        return set(request.getSet(), response);
      }
      case DELETE -> {
        return delete(request.getDelete(), response);
      }
      case TXN -> {
        return txn(request.getTxn(), response);
      }
      case SCAN -> {
        return response.setScanned(scan(request.getScan()));
      }
      case OPEN_SESSION -> {
        return response.setSessionOpened(open(request.getOpenSession()));
      }
      case AWAIT_LOST -> awaitLost(request.getAwaitLost().getHandle());
      case WATCH -> {
        var watch = request.getWatch();
        KeyRange range =
            watch.hasKey()
                ? new KeyRange.Key(watch.getKey())
                : new KeyRange.Prefix(watch.getPrefix());
        Client client = handles.get(watch.getClient(), Client.class);
        handles.put(watch.getWatch(), client.watch(range));
      }
      case NEXT -> {
        return next(request.getNext().getHandle(), response);
      }
      case LOCK -> {
        return lock(request.getLock(), response);
      }
      case OBSERVE -> {
        var observe = request.getObserve();
        Client client = handles.get(observe.getClient(), Client.class);
        handles.put(observe.getObservation(), client.observe(observe.getName()));
      }
      case PIPELINE -> {
        return response.setAnswers(pipeline(request.getPipeline()));
      }
      case CANCEL, ACTION_NOT_SET -> throw new IllegalArgumentException("no such action");
    }
    return response.hasEchoed() ? response : response.setDone(Done.getDefaultInstance());
  }

  private void connect(Connect connect) {
    Client.Builder builder =
        Client.builder().endpoints(connect.getEndpointsList().toArray(String[]::new));
    if (connect.hasTimeout()) {
      builder.timeout(Convert.duration(connect.getTimeout()));
    }
    if (connect.hasOnlyCluster()) {
      builder.onlyCluster(connect.getOnlyCluster());
    }
    handles.put(connect.getClient(), builder.build());
  }

  private void close(String name) {
    Object handle = handles.get(name, Object.class);
    if (handle instanceof Client client) {
      client.close();
    } else if (handle instanceof LivingSession session) {
      session.end();
    } else if (handle instanceof Lock lock) {
      lock.release();
    } else if (handle instanceof Watch watch) {
      watch.close();
    } else if (handle instanceof Holders holders) {
      holders.close();
    }
  }

  private io.github.seshatkv.client.Caller caller(Caller caller) {
    Optional<Duration> timeout =
        caller.hasTimeout() ? Optional.of(Convert.duration(caller.getTimeout())) : Optional.empty();
    if (caller.hasSession()) {
      Session session = handles.get(caller.getSession(), Session.class);
      return timeout.map(session::withTimeout).orElse(session);
    }
    Client client = handles.get(caller.getClient(), Client.class);
    return timeout.map(client::withTimeout).orElse(client);
  }

  private Client client(Caller caller) {
    return (Client) caller(caller);
  }

  private Response.Builder set(
      io.github.seshatkv.proto.conformance.v1.Set set, Response.Builder response) {
    SetCall call =
        caller(set.getCaller()).write(set.getKey(), set.getValue()).lifetime(convert.lifetime(set));
    if (!set.hasCondition()) {
      return response.setWritten(Written.newBuilder().setRevision(call.send().revision()));
    }
    var outcome = call.on(convert.condition(set.getCondition(), set.getKey())).send();
    if (outcome instanceof Conditional.Succeeded<io.github.seshatkv.client.Written> it) {
      return response.setWritten(Written.newBuilder().setRevision(it.result().revision()));
    }
    return response.setNotHeld(notHeld((Conditional.NotHeld<?>) outcome));
  }

  private Response.Builder delete(
      io.github.seshatkv.proto.conformance.v1.Delete delete, Response.Builder response) {
    var call = caller(delete.getCaller()).remove(delete.getKey());
    if (!delete.hasCondition()) {
      return response.setDeleted(Convert.deleted(call.send()));
    }
    var outcome = call.on(convert.condition(delete.getCondition(), delete.getKey())).send();
    if (outcome instanceof Conditional.Succeeded<io.github.seshatkv.client.Deleted> it) {
      return response.setDeleted(Convert.deleted(it.result()));
    }
    return response.setNotHeld(notHeld((Conditional.NotHeld<?>) outcome));
  }

  private static NotHeld.Builder notHeld(Conditional.NotHeld<?> outcome) {
    NotHeld.Builder notHeld = NotHeld.newBuilder();
    outcome.found().ifPresent(entry -> notHeld.setFound(Convert.entry(entry)));
    return notHeld;
  }

  private Response.Builder txn(
      io.github.seshatkv.proto.conformance.v1.Txn asked, Response.Builder response) {
    Txn txn =
        new Txn(
            asked.getConditionsList().stream()
                .map(it -> convert.condition(it, it.getKey()))
                .toList(),
            asked.getSuccessList().stream().map(convert::operation).toList(),
            asked.getFailureList().stream().map(convert::operation).toList());
    TxnOutcome outcome = caller(asked.getCaller()).txn(txn);
    return response.setTxnDone(
        TxnDone.newBuilder()
            .setSucceeded(outcome.succeeded())
            .setRevision(outcome.revision())
            .addAllResults(outcome.results().stream().map(Convert::result).toList()));
  }

  private Scanned.Builder scan(Scan asked) {
    var scan =
        client(asked.getCaller())
            .scan(new KeyRange.Prefix(asked.getPrefix()))
            .limit(asked.getLimit());
    if (asked.getKeysOnly()) {
      scan.keysOnly();
    }
    Scanned.Builder scanned = Scanned.newBuilder();
    if (asked.getCountOnly()) {
      return scanned.setCount(scan.count());
    }
    scan.collect().forEach(entry -> scanned.addEntries(Convert.entry(entry)));
    return scanned;
  }

  private SessionOpened.Builder open(OpenSession asked) {
    Client client = handles.get(asked.getClient(), Client.class);
    Session session =
        asked.hasTtl() ? client.session(Convert.duration(asked.getTtl())) : client.session();
    handles.put(asked.getSession(), session);
    return SessionOpened.newBuilder().setId(session.id());
  }

  private void awaitLost(String name) throws InterruptedException {
    Object handle = handles.get(name, Object.class);
    CompletableFuture<?> lost =
        handle instanceof Lock lock ? lock.lost() : ((LivingSession) handle).lost();
    try {
      lost.get();
    } catch (ExecutionException failed) {
      throw new IllegalStateException(failed);
    }
  }

  private Response.Builder next(String name, Response.Builder response) {
    Object handle = handles.get(name, Object.class);
    if (handle instanceof Holders holders) {
      Optional<Holder> holder = holders.next();
      HolderIs.Builder is = HolderIs.newBuilder().setHeld(holder.isPresent());
      holder.ifPresent(it -> is.setValue(it.value()).setToken(it.token()));
      return response.setHolderIs(is);
    }
    while (true) {
      Update update = ((Watch) handle).next();
      var told = Convert.update(update);
      if (told.isPresent()) {
        return response.setUpdate(told.get());
      }
    }
  }

  private Response.Builder lock(
      io.github.seshatkv.proto.conformance.v1.Lock asked, Response.Builder response) {
    var caller = caller(asked.getCaller());
    LockCall call =
        caller instanceof LivingSession session
            ? session.claim(asked.getName())
            : ((Client) caller).claim(asked.getName());
    call.value(asked.getValue());
    if (asked.hasTtl()) {
      call.ttl(Convert.duration(asked.getTtl()));
    }
    Lock lock;
    if (asked.hasMaxWait()) {
      LockAttempt attempt = call.tryAcquire(Convert.duration(asked.getMaxWait()));
      if (!(attempt instanceof LockAttempt.Acquired acquired)) {
        return response.setNotAcquired(NotAcquired.getDefaultInstance());
      }
      lock = acquired.lock();
    } else {
      lock = call.acquire();
    }
    handles.put(asked.getLock(), lock);
    return response.setAcquired(Acquired.newBuilder().setToken(lock.token()));
  }

  private Answers.Builder pipeline(io.github.seshatkv.proto.conformance.v1.Pipeline asked)
      throws InterruptedException {
    var caller = caller(asked.getCaller());
    Answers.Builder answers = Answers.newBuilder();
    try (Pipeline pipeline =
        caller instanceof Session session ? session.pipeline() : ((Client) caller).pipeline()) {
      List<CompletableFuture<List<Reply>>> replies = new ArrayList<>();
      for (Operation command : asked.getCommandsList()) {
        try {
          replies.add(pipeline.submit(convert.operation(command)));
        } catch (SeshatException notSent) {
          replies.add(CompletableFuture.completedFuture(List.of(new Reply.Failed(notSent))));
        }
      }
      for (CompletableFuture<List<Reply>> reply : replies) {
        answers.addResults(result(asked.getCommands(answers.getResultsCount()), reply));
      }
    }
    return answers;
  }

  private static OperationResult.Builder result(
      Operation command, CompletableFuture<List<Reply>> reply) throws InterruptedException {
    try {
      return Convert.reply(command, reply.get().get(0));
    } catch (ExecutionException | CompletionException failed) {
      throw new IllegalStateException(failed);
    }
  }
}
