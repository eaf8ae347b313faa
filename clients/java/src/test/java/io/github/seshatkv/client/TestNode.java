package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.CloseSessionRequest;
import io.github.seshatkv.proto.kv.v1.CloseSessionResponse;
import io.github.seshatkv.proto.kv.v1.GetRequest;
import io.github.seshatkv.proto.kv.v1.GetResponse;
import io.github.seshatkv.proto.kv.v1.KeepAliveRequest;
import io.github.seshatkv.proto.kv.v1.KeepAliveResponse;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.github.seshatkv.proto.kv.v1.OpenSessionRequest;
import io.github.seshatkv.proto.kv.v1.OpenSessionResponse;
import io.github.seshatkv.proto.lock.v1.AcquireRequest;
import io.github.seshatkv.proto.lock.v1.AcquireResponse;
import io.github.seshatkv.proto.lock.v1.AwaitRequest;
import io.github.seshatkv.proto.lock.v1.AwaitResponse;
import io.github.seshatkv.proto.lock.v1.Held;
import io.github.seshatkv.proto.lock.v1.LockServiceGrpc;
import io.github.seshatkv.proto.lock.v1.Waiting;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** A node that leads, and at which every claim waits as long as its test wants. */
final class TestNode implements AutoCloseable {
  /** A question for the state of a claim. */
  record Question(long claim, StreamObserver<AwaitResponse> reply) {
    void stillWaiting() {
      tell(reply, AwaitResponse.newBuilder().setWaiting(Waiting.getDefaultInstance()).build());
    }

    void held() {
      tell(reply, AwaitResponse.newBuilder().setHeld(Held.newBuilder().setToken(9)).build());
    }
  }

  /** The questions that have come, and were not taken by the test. */
  final BlockingQueue<Question> questions = new LinkedBlockingQueue<>();

  private final Server server;

  TestNode() throws IOException {
    InetSocketAddress any = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    server =
        NettyServerBuilder.forAddress(any).addService(new Kv()).addService(new Locks()).build();
    server.start();
  }

  String address() {
    return "127.0.0.1:" + server.getPort();
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  private static <T> void tell(StreamObserver<T> reply, T answer) {
    reply.onNext(answer);
    reply.onCompleted();
  }

  private static final class Kv extends KvServiceGrpc.KvServiceImplBase {
    @Override
    public void get(GetRequest request, StreamObserver<GetResponse> reply) {
      tell(reply, GetResponse.newBuilder().setClusterId(7).build());
    }

    @Override
    public void openSession(OpenSessionRequest request, StreamObserver<OpenSessionResponse> reply) {
      tell(reply, OpenSessionResponse.newBuilder().setTtl(request.getTtl()).build());
    }

    @Override
    public void keepAlive(KeepAliveRequest request, StreamObserver<KeepAliveResponse> reply) {
      tell(reply, KeepAliveResponse.getDefaultInstance());
    }

    @Override
    public void closeSession(
        CloseSessionRequest request, StreamObserver<CloseSessionResponse> reply) {
      tell(reply, CloseSessionResponse.getDefaultInstance());
    }
  }

  private final class Locks extends LockServiceGrpc.LockServiceImplBase {
    @Override
    public void acquire(AcquireRequest request, StreamObserver<AcquireResponse> reply) {
      tell(reply, AcquireResponse.newBuilder().setWaiting(Waiting.getDefaultInstance()).build());
    }

    @Override
    public void await(AwaitRequest request, StreamObserver<AwaitResponse> reply) {
      questions.add(new Question(request.getClaim(), reply));
    }
  }
}
