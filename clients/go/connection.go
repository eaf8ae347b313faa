package seshat

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// The largest message that a client accepts: the upper bound of limits.max_grpc_message_bytes.
const maxMessageBytes = 256 << 20

const (
	// A connection with calls on it is pinged this often: grpc-go allows no shorter interval.
	keepaliveInterval = 10 * time.Second
	// It is closed when a ping stays unanswered for so long.
	keepaliveTimeout = 5 * time.Second
)

// purpose is the use of a connection. What is read slowly fills its connection, and must not delay calls.
type purpose int

const (
	// Calls, and pipelines.
	forCalls purpose = iota
	// Answers of many parts, which the program takes when it wants; and calls that wait for locks.
	forStreams
	forWatches
)

// streamWindow is how many bytes of one call's answer may be in flight.
func (p purpose) streamWindow() int32 {
	switch p {
	case forStreams:
		return 1 << 20
	case forWatches:
		return 64 << 10
	}
	return 4 << 20
}

// connection is a connection to one address. It is closed when it was replaced, and no call is left on it.
type connection struct {
	grpc *grpc.ClientConn
	// Guarded by the mutex of its client.
	inUse   int
	retired bool
}

// dial makes a connection, which connects when it is first used.
func dial(address string, p purpose, connectTimeout time.Duration) (*connection, error) {
	made, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("seshat-go/"+Version),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay: 20 * time.Millisecond, Multiplier: 2, Jitter: 0.5, MaxDelay: 500 * time.Millisecond,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithInitialWindowSize(p.streamWindow()),
		grpc.WithInitialConnWindowSize(16<<20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.WaitForReady(false)),
		grpc.WithStatsHandler(tracer{}),
	)
	if err != nil {
		return nil, unreachable(err.Error())
	}
	return &connection{grpc: made}, nil
}

// node is a node and a connection to it, for one call.
type node struct {
	address string
	purpose purpose
	// The cluster that the call names; 0: none.
	cluster uint64
	*connection
	nodes *nodes
}

func (n *node) kv() kvpb.KvServiceClient { return kvpb.NewKvServiceClient(n.grpc) }

func (n *node) locks() lockpb.LockServiceClient { return lockpb.NewLockServiceClient(n.grpc) }

// named returns the cluster as requests name it.
func (n *node) named() *uint64 { return optional(n.cluster) }

func optional(cluster uint64) *uint64 {
	if cluster == 0 {
		return nil
	}
	return &cluster
}

// trace is what is known of an attempt that has failed: the library reports alike what was never sent, what was
// lost, and what a node has refused.
type trace struct {
	// Whether the request may have left this machine.
	sent atomic.Bool
	// Whether the status is one that the other side sent.
	answered atomic.Bool
}

type traceKey struct{}

func traced(ctx context.Context) (context.Context, *trace) {
	seen := &trace{}
	return context.WithValue(ctx, traceKey{}, seen), seen
}

// tracer notes the events of calls in their traces.
type tracer struct{}

func (tracer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (tracer) HandleRPC(ctx context.Context, event stats.RPCStats) {
	seen, ok := ctx.Value(traceKey{}).(*trace)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.OutHeader:
		seen.sent.Store(true)
	case *stats.InTrailer:
		seen.answered.Store(true)
	}
}

func (tracer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (tracer) HandleConn(context.Context, stats.ConnStats) {}
