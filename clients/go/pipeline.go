package seshat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

const (
	// Most batches in flight: a node accepts no more on one stream.
	maxWindow = 1024
	// Most commands in a batch: a node accepts no more.
	maxCommands = 4096
)

// PipelineOption is a setting of a [Pipeline].
type PipelineOption func(*int)

// Window sets how many batches may be in flight: 1 to 1024. Default: 64.
func Window(batches int) PipelineOption {
	return func(window *int) { *window = min(max(batches, 1), maxWindow) }
}

// Pipeline is a stream of batches of commands. The commands take effect in the order of submission, and a read sees
// every write before it. A command that fails has no effect on later commands. It is safe for concurrent use.
//
// Without a session, the pipeline ends with its connection and with the leadership of its node. Every write in flight
// then has an unknown outcome; open another pipeline to continue. In a session, it finds the new leader and sends the
// unanswered batches again, in order and until the deadline of each. A write that was already applied is not applied
// again. So a batch that a node refused may take effect after later ones, and a read that is sent again may see writes
// that were submitted after it. If that matters, wait for the answer before you submit more.
type Pipeline struct {
	issuer *issuer
	window chan struct{}
	pipe   *pipe
}

// Pipeline opens a stream that keeps many commands in flight. The caller closes it.
func (i *issuer) Pipeline(ctx context.Context, options ...PipelineOption) (*Pipeline, error) {
	if err := i.holds(); err != nil {
		return nil, err
	}
	window := 64
	for _, set := range options {
		set(&window)
	}
	caller := i.caller
	if i.numbers != nil {
		caller = i.boundTo(i.home)
	}
	opened, err := openPipe(ctx, caller, window, i.numbers != nil)
	if err != nil {
		return nil, err
	}
	return &Pipeline{issuer: i, window: make(chan struct{}, window), pipe: opened}, nil
}

// Submit puts a batch on the stream, as soon as the window has room for it. The answers come later. Their deadline is
// that of ctx, or the timeout of the client.
//
// The error is that the batch was not sent: the pipeline has ended, its session is lost, the window stayed full, or the
// batch has no command, more than 4096, or more than 1024 writes in a session.
func (p *Pipeline) Submit(ctx context.Context, commands ...Command) (*Answers, error) {
	if len(commands) == 0 || len(commands) > maxCommands {
		return nil, invalid(fmt.Sprintf("a batch has 1 to %d commands", maxCommands))
	}
	ctx, cancel := p.issuer.within(ctx)
	defer cancel()
	writes := 0
	for _, command := range commands {
		if command.isWrite() {
			writes++
		}
	}
	numbers := p.issuer.numbers
	if numbers != nil && writes > maxOutstanding {
		return nil, invalid(fmt.Sprintf("a session has at most %d writes in flight", maxOutstanding))
	}
	select {
	case p.window <- struct{}{}:
	case <-ctx.Done():
		return nil, over(ctx, "the pipeline is full")
	}
	b := &batch{commands: commands}
	b.deadline, _ = ctx.Deadline()
	b.answers = &Answers{done: make(chan struct{}), deadline: b.deadline, hasWrites: writes > 0}
	b.release = func() { <-p.window }
	if numbers != nil {
		given, err := numbers.next(ctx, writes)
		if err != nil {
			b.release()
			return nil, err
		}
		b.numbers, b.session = given, numbers
		b.release = func() {
			numbers.done(given)
			<-p.window
		}
	}
	if err := p.pipe.submit(b); err != nil {
		b.release()
		return nil, err
	}
	return b.answers, nil
}

// Close ends the pipeline. Batches in flight are still answered.
func (p *Pipeline) Close() { p.pipe.close() }

// Answers is the answers to one batch. The batch is executed also if no program waits for them.
type Answers struct {
	done      chan struct{}
	deadline  time.Time
	replies   []Reply
	hasWrites bool
}

// Wait returns the answers: one for each command, in order. They come at the deadline of the batch at the latest. The
// error is that ctx has ended before.
func (a *Answers) Wait(ctx context.Context) ([]Reply, error) {
	select {
	case <-a.done:
		return a.replies, nil
	case <-ctx.Done():
		if end, ok := ctx.Deadline(); ok && !end.Before(a.deadline) && !errors.Is(ctx.Err(), context.Canceled) {
			// The batch ends now, and its answers say more.
			<-a.done
			return a.replies, nil
		}
		failure := over(ctx, "the batch was not answered in time")
		failure.Applied = Applied(a.hasWrites)
		return nil, failure
	}
}

// batch is a batch that was submitted.
type batch struct {
	commands []Command
	// One for each write, in a session.
	numbers  []uint64
	session  *numbers
	deadline time.Time
	answers  *Answers
	// Gives its place in the window and its numbers back.
	release func()
	id      uint64
	// When it was sent last, unless that attempt surely had no effect.
	sent time.Time
	// Whether an earlier attempt may have been applied.
	inDoubt bool
}

// request returns the message of the batch.
func (b *batch) request(cluster uint64) *kvpb.PipelineRequest {
	request := &kvpb.PipelineRequest{Id: b.id, ClusterId: optional(cluster)}
	rest := b.numbers
	for _, command := range b.commands {
		var stamp *kvpb.Session
		if len(rest) > 0 && command.isWrite() {
			stamp = b.session.stamp(rest[0])
			rest = rest[1:]
		}
		request.Commands = append(request.Commands, command.command(stamp))
	}
	return request
}

// answer gives the program its answers.
func (b *batch) answer(replies []Reply) {
	b.answers.replies = replies
	close(b.answers.done)
	b.release()
}

// fail fails every command with a fault of the node at address. A write that was sent may have been applied.
func (b *batch) fail(address string, f *fault) {
	sent := b.inDoubt || !b.sent.IsZero()
	replies := make([]Reply, len(b.commands))
	for i, command := range b.commands {
		each := *f
		each.applied = Applied(sent && command.isWrite())
		replies[i].Err = each.ended(address)
	}
	b.answer(replies)
}
