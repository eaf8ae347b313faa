package seshat

import (
	"context"
	"io"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// pipe is the stream of a pipeline: the batches in flight on it, and their fate when it breaks.
//
// Batches stand in one queue, in the order in which they were sent, until they are answered; the node answers in that
// order. submit puts a batch into the queue and on the stream under one lock. One goroutine reads the answers. If the
// stream belongs to a session, that opens another one when it breaks, and sends the batches in the queue again.
type pipe struct {
	caller caller
	window int
	// Whether every write has a number.
	resumes bool
	// Wakes the reader: a batch was submitted while none was in flight, or the pipe was closed.
	woken chan struct{}

	// Of the reader: how long no answer may come while batches are in flight, before another node is tried; and when
	// the last answer came.
	attemptTimeout time.Duration
	heard          time.Time

	mu       sync.Mutex
	inFlight []*batch
	// To the node, while there is a stream.
	requests chan *kvpb.PipelineRequest
	lastID   uint64
	cluster  uint64
	// Whether no batch follows.
	closed bool
	// Why no batch can be submitted any more.
	over *Error
}

// channel is a stream to one node.
type channel struct {
	node      *node
	cancel    context.CancelFunc
	requests  chan *kvpb.PipelineRequest
	responses chan response
}

// response is the next message of a channel, or why there is none.
type response struct {
	message *kvpb.PipelineResponse
	fault   *fault
}

func openPipe(ctx context.Context, c caller, window int, resumes bool) (*pipe, error) {
	opened, err := openChannel(ctx, c, window)
	if err != nil {
		return nil, err
	}
	p := &pipe{
		caller: c, window: window, resumes: resumes, woken: make(chan struct{}, 1),
		attemptTimeout: c.nodes.attemptTimeout, heard: time.Now(),
		requests: opened.requests, cluster: opened.node.cluster,
	}
	go p.run(opened)
	return p, nil
}

// openChannel opens a stream to the leader. That changes nothing, so it may be repeated.
func openChannel(ctx context.Context, c caller, window int) (*channel, error) {
	return call(ctx, c, read, func(attempt context.Context, n *node) (*channel, error) {
		inner, seen := traced(c.nodes.ctx)
		inner, cancel := context.WithCancel(inner)
		stop := context.AfterFunc(attempt, cancel)
		messages, err := n.kv().Pipeline(inner)
		if err == nil {
			header, _ := messages.Header()
			if header == nil {
				// It has ended already.
				_, err = messages.Recv()
			}
		}
		if !stop() && err == nil {
			err = attempt.Err()
		}
		if err != nil {
			cancel()
			return nil, faultOf(attempt, err, seen)
		}
		n.hold()
		opened := &channel{
			node: n, cancel: cancel, requests: make(chan *kvpb.PipelineRequest, window), responses: make(chan response),
		}
		go opened.send(messages)
		go opened.receive(inner, messages, seen)
		return opened, nil
	})
}

type pipelineClient = grpc.BidiStreamingClient[kvpb.PipelineRequest, kvpb.PipelineResponse]

func (c *channel) send(messages pipelineClient) {
	for request := range c.requests {
		if messages.Send(request) != nil {
			return
		}
	}
	_ = messages.CloseSend()
}

func (c *channel) receive(ctx context.Context, messages pipelineClient, seen *trace) {
	for {
		message, err := messages.Recv()
		next := response{message: message}
		if err == io.EOF {
			next.fault = broken("the node ended the stream")
		} else if err != nil {
			next.fault = faultOf(context.Background(), err, seen)
		}
		select {
		case c.responses <- next:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *channel) close() {
	c.cancel()
	c.node.release()
}

func (p *pipe) submit(b *batch) *Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over != nil {
		return p.over
	}
	if p.closed {
		return invalid("the pipeline is closed")
	}
	p.send(b)
	if len(p.inFlight) == 1 {
		p.wake()
	}
	return nil
}

// send puts a batch into the queue, and on the stream if there is one.
func (p *pipe) send(b *batch) {
	p.lastID++
	b.id = p.lastID
	if p.requests != nil {
		b.inDoubt = b.inDoubt || !b.sent.IsZero()
		b.sent = time.Now()
		// It has room for all batches that may be in flight. If the stream has broken, the reader notices that.
		select {
		case p.requests <- b.request(p.cluster):
		default:
		}
	}
	p.inFlight = append(p.inFlight, b)
}

func (p *pipe) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.disconnect()
	p.wake()
}

// disconnect sends nothing more on the stream.
func (p *pipe) disconnect() {
	if p.requests != nil {
		close(p.requests)
		p.requests = nil
	}
}

// run reads the answers.
func (p *pipe) run(c *channel) {
	b := p.caller.nodes.backoff
	pause := b.min
	for c != nil {
		f, progress := p.read(c)
		address := c.node.address
		if f == nil {
			c.close()
			return
		}
		p.caller.nodes.note(c.node, f)
		c.close()
		if !p.resumes || p.caller.nodes.ctx.Err() != nil {
			p.end(address, f)
			return
		}
		p.mu.Lock()
		p.disconnect()
		p.mu.Unlock()
		if progress {
			pause = b.min
		}
		sleep(p.caller.nodes.ctx, jittered(pause))
		pause = b.longer(pause)
		c = p.resume(address)
	}
}

// read reads until the stream ends. It returns why, nil after the last answer, and whether any batch was answered on it.
func (p *pipe) read(c *channel) (f *fault, progress bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		limit, isDone := p.look()
		if isDone {
			return nil, progress
		}
		left := time.Duration(math.MaxInt64)
		if !limit.IsZero() {
			if left = time.Until(limit); left <= 0 {
				p.attemptTimeout *= 2
				return silence(), progress
			}
		}
		timer.Reset(left)
		select {
		case next := <-c.responses:
			f := next.fault
			if f == nil {
				f = p.deliver(c, next.message)
			}
			if f != nil {
				return f, progress
			}
			progress, p.heard, p.attemptTimeout = true, time.Now(), p.caller.nodes.attemptTimeout
		case <-p.woken:
		case <-timer.C:
		}
	}
}

// look returns when the oldest batch in flight will have waited too long, if there is one; and whether there is none, and
// none will follow.
func (p *pipe) look() (limit time.Time, isDone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.inFlight) == 0 {
		return time.Time{}, p.closed
	}
	oldest := p.inFlight[0]
	if !p.resumes || oldest.sent.IsZero() {
		return oldest.deadline, false
	}
	heard := p.heard
	if oldest.sent.After(heard) {
		heard = oldest.sent
	}
	return heard.Add(min(p.attemptTimeout, oldest.deadline.Sub(heard)/3)), false
}

// deliver gives the oldest batch its answers. The fault is that the answer does not fit, or that the batch has to be sent
// again.
func (p *pipe) deliver(c *channel, message *kvpb.PipelineResponse) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.inFlight) == 0 || p.inFlight[0].id != message.GetId() ||
		len(p.inFlight[0].commands) != len(message.GetResults()) {
		return broken("an answer to nothing that was asked")
	}
	b := p.inFlight[0]
	replies, left, allRefused := b.replies(c.node.address, message.GetResults())
	if left != nil && p.resumes && left.detail.GetOtherCluster() == nil && time.Now().Before(b.deadline) {
		if allRefused {
			b.sent = time.Time{}
		}
		return left
	}
	p.inFlight = p.inFlight[1:]
	if left != nil && p.over == nil {
		// Batches in flight will still be answered; no batch may follow.
		p.caller.nodes.note(c.node, left)
		p.over = left.ofRead().ended(c.node.address)
		p.closed = true
		p.disconnect()
	}
	b.answer(replies)
	return nil
}

// replies returns the answers to a batch; the fault of a command that another node may serve, if any; and whether all
// commands were surely not applied.
func (b *batch) replies(address string, results []*kvpb.PipelineResult) (all []Reply, left *fault, allRefused bool) {
	allRefused = true
	for i, result := range results {
		reply, f := replyTo(b.commands[i], result)
		if f == nil || f.applied == AppliedUnknown {
			allRefused = false
		}
		if f != nil {
			// For `overloaded` the program has to slow down; the stream goes on.
			if left == nil && f.retry == later && f.endsLeadership() {
				left = f
			}
			failure := f.ended(address)
			b.session.learn(failure)
			if b.inDoubt && b.commands[i].isWrite() {
				failure = failure.inDoubt()
			}
			reply = Reply{Err: failure}
		}
		all = append(all, reply)
	}
	return all, left, allRefused
}

// replyTo returns the answer to one command.
func replyTo(command Command, result *kvpb.PipelineResult) (Reply, *fault) {
	var f *fault
	reply := Reply{}
	if refused := result.GetError(); refused != nil {
		f = faultOfCommand(refused)
	} else if got, err := command.reply(result); err != nil {
		f = faultOf(context.Background(), err, &trace{})
	} else {
		reply = got
	}
	if f != nil && !command.isWrite() {
		f = f.ofRead()
	}
	return reply, f
}

// end ends the pipe: the stream will not be opened again. The batches in flight fail.
func (p *pipe) end(address string, f *fault) {
	p.mu.Lock()
	p.over = f.ofRead().ended(address)
	p.disconnect()
	lost := p.inFlight
	p.inFlight = nil
	p.mu.Unlock()
	for _, b := range lost {
		if f.detail != nil && f.applied == AppliedNo {
			// The node says that it has not begun what it has not answered.
			b.sent = time.Time{}
		}
		b.fail(address, f)
	}
}

// resume opens another stream, and sends the batches in flight again. Nil: there are none and the pipe is closed, or the
// client is.
func (p *pipe) resume(address string) *channel {
	for {
		deadline, ok := p.oldestDeadline(address)
		if !ok {
			p.mu.Lock()
			closed := p.closed
			p.mu.Unlock()
			if closed {
				return nil
			}
			select {
			case <-p.woken:
			case <-p.caller.nodes.ctx.Done():
				p.end(address, broken("the client is closed"))
				return nil
			}
			continue
		}
		ctx, cancel := context.WithDeadline(p.caller.nodes.ctx, deadline)
		opened, err := openChannel(ctx, p.caller, p.window)
		if err == nil {
			cancel()
			p.resend(opened)
			return opened
		}
		// The oldest batch has reached its deadline now, unless no node will ever serve.
		sleep(ctx, p.attemptTimeout)
		cancel()
		if p.caller.nodes.ctx.Err() != nil {
			p.end(address, broken("the client is closed"))
			return nil
		}
	}
}

func (p *pipe) resend(c *channel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = c.requests
	batches := p.inFlight
	p.inFlight = nil
	for _, b := range batches {
		p.send(b)
	}
	if p.closed {
		p.disconnect()
	}
}

// oldestDeadline fails the batches whose deadline has passed. It returns the deadline of the first one left.
func (p *pipe) oldestDeadline(address string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.inFlight) > 0 && !p.inFlight[0].deadline.After(time.Now()) {
		p.inFlight[0].fail(address, silence())
		p.inFlight = p.inFlight[1:]
	}
	if len(p.inFlight) == 0 {
		return time.Time{}, false
	}
	return p.inFlight[0].deadline, true
}
