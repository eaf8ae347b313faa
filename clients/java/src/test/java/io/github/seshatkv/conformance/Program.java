package io.github.seshatkv.conformance;

import io.github.seshatkv.client.SeshatException;
import io.github.seshatkv.proto.conformance.v1.Applied;
import io.github.seshatkv.proto.conformance.v1.Done;
import io.github.seshatkv.proto.conformance.v1.Failure;
import io.github.seshatkv.proto.conformance.v1.Kind;
import io.github.seshatkv.proto.conformance.v1.Request;
import io.github.seshatkv.proto.conformance.v1.Response;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The test program of the conformance runner: carries out requests, each on a thread of its own.
 */
public final class Program {
  private final Map<Long, Thread> underWay = new ConcurrentHashMap<>();
  private final Actions actions = new Actions();
  private final OutputStream output;

  private Program(OutputStream output) {
    this.output = output;
  }

  /** Serves requests from standard input until that ends. */
  public static void main(String[] arguments) throws IOException {
    Warmup.run();
    Program program = new Program(new BufferedOutputStream(System.out));
    InputStream input = new BufferedInputStream(System.in);
    Request request;
    while ((request = Request.parseDelimitedFrom(input)) != null) {
      program.accept(request);
    }
    // What is still under way has nobody to answer to.
    Runtime.getRuntime().halt(0);
  }

  private void accept(Request request) {
    if (request.hasCancel()) {
      Thread thread = underWay.get(request.getCancel().getRequest());
      if (thread != null) {
        thread.interrupt();
      }
      answer(request, Response.newBuilder().setDone(Done.getDefaultInstance()));
      return;
    }
    Thread thread = new Thread(() -> answer(request, outcome(request)));
    thread.setDaemon(true);
    underWay.put(request.getId(), thread);
    thread.start();
  }

  private Response.Builder outcome(Request request) {
    try {
      return actions.perform(request);
    } catch (InterruptedException interrupted) {
      return failure(Kind.KIND_CANCELLED, "interrupted");
    } catch (SeshatException error) {
      return Response.newBuilder().setFailure(failure(error));
    } catch (RuntimeException | ReflectiveOperationException | IOException error) {
      error.printStackTrace();
      return failure(Kind.KIND_UNSPECIFIED, error.toString());
    }
  }

  private static Response.Builder failure(Kind kind, String message) {
    return Response.newBuilder().setFailure(Failure.newBuilder().setKind(kind).setMessage(message));
  }

  /** The error of a client, as the runner knows it. */
  static Failure failure(SeshatException error) {
    return Failure.newBuilder()
        .setApplied(
            switch (error.applied()) {
              case NO -> Applied.APPLIED_NO;
              case UNKNOWN -> Applied.APPLIED_UNKNOWN;
            })
        .setKind(Kind.valueOf("KIND_" + error.kind().name()))
        .setReason(error.reason().map(Object::toString).orElse(""))
        .setMessage(String.valueOf(error.getMessage()))
        .build();
  }

  private void answer(Request request, Response.Builder response) {
    underWay.remove(request.getId());
    synchronized (output) {
      try {
        response.setId(request.getId()).build().writeDelimitedTo(output);
        output.flush();
      } catch (IOException closed) {
        throw new UncheckedIOException(closed);
      }
    }
  }
}
