package io.github.seshatkv.conformance;

import io.github.seshatkv.client.Client;
import io.github.seshatkv.proto.kv.v1.GetRequest;
import io.github.seshatkv.proto.kv.v1.GetResponse;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;

/**
 * Loads what a call needs. On a busy machine the first call of a JVM takes seconds, which the
 * timeouts of the cases do not allow for.
 */
final class Warmup {
  private Warmup() {}

  /** Makes a call to a node of its own. */
  static void run() throws IOException {
    InetSocketAddress any = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    Server node = NettyServerBuilder.forAddress(any).addService(new Node()).build().start();
    try (Client client = Client.connect("127.0.0.1:" + node.getPort())) {
      client.withTimeout(Duration.ofMinutes(1)).get("k");
    } finally {
      node.shutdownNow();
    }
  }

  /** A node where no key is bound. */
  private static final class Node extends KvServiceGrpc.KvServiceImplBase {
    @Override
    public void get(GetRequest request, StreamObserver<GetResponse> answer) {
      answer.onNext(GetResponse.newBuilder().setClusterId(1).build());
      answer.onCompleted();
    }
  }
}
