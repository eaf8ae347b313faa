package seshat

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// stream is the messages that a node sends in answer to one call.
type stream[M any] struct {
	node     *node
	messages grpc.ServerStreamingClient[M]
	// The context of the call, which outlives the attempt that has begun it.
	ctx    context.Context
	cancel context.CancelFunc
	seen   *trace
	// The message that has come already; nil: none.
	first *M
	begun time.Time
}

// begin begins a call that lives as long as lives, and waits for its first message as long as attempt. The caller
// closes it.
func begin[M any](
	attempt, lives context.Context, n *node,
	start func(context.Context) (grpc.ServerStreamingClient[M], error),
) (*stream[M], error) {
	inner, seen := traced(lives)
	inner, cancel := context.WithCancel(inner)
	s := &stream[M]{node: n, ctx: inner, cancel: cancel, seen: seen, begun: time.Now()}
	// The stream has the trace of its own call, and its attempt shares what is known of it.
	stop := context.AfterFunc(attempt, cancel)
	var err error
	if s.messages, err = start(inner); err == nil {
		s.first, err = s.messages.Recv()
	}
	if !stop() && err == nil {
		err = attempt.Err()
	}
	if err != nil {
		cancel()
		return nil, s.fault(attempt, err)
	}
	n.hold()
	return s, nil
}

// receive returns the next message. It waits for it as long as limit.
func (s *stream[M]) receive(limit time.Duration) (*M, *fault) {
	if first := s.first; first != nil {
		s.first = nil
		return first, nil
	}
	var late atomic.Bool
	timer := time.AfterFunc(limit, func() {
		late.Store(true)
		s.cancel()
	})
	message, err := s.messages.Recv()
	timer.Stop()
	switch {
	case err == nil:
		return message, nil
	case late.Load():
		return nil, silence().ofRead()
	}
	return nil, s.fault(context.Background(), err)
}

// fault returns the fault of a stream that ended with err.
func (s *stream[M]) fault(attempt context.Context, err error) *fault {
	if err == io.EOF {
		return broken("the node ended the stream").ofRead()
	}
	return faultOf(attempt, err, s.seen).ofRead()
}

// close ends the call.
func (s *stream[M]) close() {
	s.cancel()
	s.node.release()
}
