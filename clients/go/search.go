package seshat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// Pause between the first question to one node and the first to the next.
	stagger = 20 * time.Millisecond
	// Most nodes of a search, including those that other nodes name.
	maxNodes = 128
	// Number of refusals from which an address is dialled anew, and every address of its name is asked. After the
	// first one the search asks the leader that it names, which mostly suffices.
	dialAnewAfter = 2
	// How often a search dials its only endpoint before the pauses grow. A load balancer behind it leads to another
	// node each time.
	quickDials = 16
	// How often a search asks at an address where another cluster answers: one name may lead to both.
	maxForeign = 4
)

// question is what a search asks of many nodes.
type question[T any] struct {
	nodes   *nodes
	purpose purpose
	// The node that is asked after all others; empty: none.
	last string
	// Nodes that are asked at once, and nodes that are asked after the endpoints.
	first, also []string
	ask         func(context.Context, *node) (T, error)
	// Ends what an answer has begun that comes too late.
	dispose func(T)
}

// search asks many nodes the same harmless question, and takes the first good answer.
//
// A node may be dead, cut off or paused, so it waits for no single one: it asks the nodes in a random order with short
// pauses between them, without waiting for answers. A node that fails makes the next one's turn come at once; so does
// a node that names the leader. A node that refuses or fails is asked again, after pauses that grow. Only the deadline
// ends a search, except for a request that no node will ever serve.
type search[T any] struct {
	question[T]
	ctx     context.Context
	news    chan news[T]
	known   map[string]*knownNode
	order   []string
	pending int
}

// knownNode is a node of a search.
type knownNode struct {
	lastWord *fault
	// Makes its first turn come at once.
	hurry    chan struct{}
	wasAsked bool
}

// news is an event of a search: a node was asked, or the addresses of a name were found.
type news[T any] struct {
	candidate *candidate
	answer    T
	node      *node
	fault     *fault
	resolved  []string
}

// candidate is a node that is asked until it answers.
type candidate struct {
	address        string
	due            time.Time
	hurry          chan struct{}
	pause          time.Duration
	attemptTimeout time.Duration
	// How often a node at this address has refused a request that another one may serve.
	refusals int
	// How often another cluster has answered.
	foreign int
}

// find returns the first good answer until the deadline of ctx, and the node that gave it. That has a connection,
// which the caller releases.
func find[T any](ctx context.Context, q question[T]) (*node, T, error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	s := &search[T]{question: q, ctx: inner, news: make(chan news[T]), known: map[string]*knownNode{}}
	s.askEndpoints()
	s.askAlso(q.also)
	for _, address := range q.first {
		s.askNow(address)
	}
	return s.run()
}

// askEndpoints asks all endpoints. The last one has its turn when the others have had their time, or have failed.
func (s *search[T]) askEndpoints() {
	order := slices.Clone(s.nodes.endpoints)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	due := time.Now()
	for _, address := range order {
		at := due
		if address == s.last && len(order) > 1 {
			at = due.Add(s.nodes.attemptTimeout)
		}
		if s.insert(address, at) {
			due = due.Add(jittered(stagger))
		}
	}
}

// askAlso asks these addresses too, after all others.
func (s *search[T]) askAlso(addresses []string) {
	due := time.Now().Add(time.Duration(len(s.known)) * stagger)
	for _, address := range addresses {
		if s.insert(address, due) {
			due = due.Add(jittered(stagger))
		}
	}
}

// askNow asks the node at address now, unless it was asked already.
func (s *search[T]) askNow(address string) {
	s.insert(address, time.Now())
	if known := s.known[address]; known != nil {
		known.hasten()
	}
}

func (k *knownNode) hasten() {
	select {
	case k.hurry <- struct{}{}:
	default:
	}
}

// insert adds a node. It returns whether it is new.
func (s *search[T]) insert(address string, due time.Time) bool {
	if s.known[address] != nil || len(s.known) >= maxNodes {
		return false
	}
	known := &knownNode{hurry: make(chan struct{}, 1)}
	s.known[address] = known
	s.order = append(s.order, address)
	s.start(&candidate{
		address: address, due: due, hurry: known.hurry, pause: s.nodes.backoff.min,
		attemptTimeout: s.nodes.attemptTimeout,
	})
	return true
}

// start asks a candidate when its turn has come.
func (s *search[T]) start(c *candidate) {
	s.pending++
	go func() {
		timer := time.NewTimer(time.Until(c.due))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.hurry:
		case <-s.ctx.Done():
			return
		}
		c.hurry = nil
		event := s.askOnce(c)
		select {
		case s.news <- event:
		case <-s.ctx.Done():
			if event.fault == nil {
				if s.dispose != nil {
					s.dispose(event.answer)
				}
				event.node.release()
			}
		}
	}()
}

func (s *search[T]) askOnce(c *candidate) news[T] {
	ctx, cancel := context.WithTimeout(s.ctx, c.attemptTimeout)
	defer cancel()
	ctx, seen := traced(ctx)
	n, err := s.nodes.node(s.purpose, c.address)
	if err != nil {
		return news[T]{candidate: c, fault: faultOf(ctx, err, seen)}
	}
	answer, err := s.ask(ctx, n)
	if err == nil {
		return news[T]{candidate: c, answer: answer, node: n}
	}
	defer n.release()
	f := faultOf(ctx, err, seen)
	if errors.Is(s.ctx.Err(), context.Canceled) {
		// The search is over, and has cut this off itself.
		return news[T]{candidate: c, fault: f}
	}
	s.nodes.note(n, f)
	if f.sendsElsewhere() {
		c.refusals++
		if c.refusals >= dialAnewAfter {
			s.nodes.dialAnew(n)
		}
	}
	return news[T]{candidate: c, fault: f}
}

// run waits for the first good answer.
func (s *search[T]) run() (*node, T, error) {
	var none T
	for s.pending > 0 {
		select {
		case event := <-s.news:
			s.pending--
			if event.candidate == nil {
				s.askAlso(event.resolved)
				continue
			}
			if event.fault == nil {
				return event.node, event.answer, nil
			}
			if event.fault.retry == nowhere {
				return nil, none, event.fault.ofRead().ended(event.candidate.address)
			}
			s.failed(event.candidate, event.fault)
		case <-s.ctx.Done():
			return nil, none, s.tooLate()
		case <-s.nodes.ctx.Done():
			return nil, none, cancelled()
		}
	}
	return nil, none, s.noNodeServes()
}

// failed asks others, and the same one again.
func (s *search[T]) failed(c *candidate, f *fault) {
	s.hasten(f)
	if c.refusals == dialAnewAfter && f.sendsElsewhere() {
		s.resolve(c.address)
	}
	if f.detail.GetOtherCluster() != nil {
		c.foreign++
	}
	known := s.known[c.address]
	known.wasAsked = true
	// After the deadline the fault is only a cancelled attempt; an earlier one says more.
	if known.lastWord == nil || s.ctx.Err() == nil {
		known.lastWord = f
	}
	if f.retry == later && c.foreign < maxForeign {
		c.postpone(f, len(s.nodes.endpoints) == 1, s.nodes.backoff)
		s.start(c)
	}
}

// hasten makes the turn of the leader that a fault names come at once, or else that of the next node.
func (s *search[T]) hasten(f *fault) {
	if leader := f.leader(); leader != "" {
		s.askNow(leader)
		return
	}
	for _, address := range s.order {
		if known := s.known[address]; !known.wasAsked {
			known.wasAsked = true
			known.hasten()
			return
		}
	}
}

// resolve asks all addresses of the name in address. It does nothing for an IP address.
func (s *search[T]) resolve(address string) {
	s.pending++
	go func() {
		found := s.nodes.resolve(s.ctx, address)
		if len(found) < 2 {
			found = nil
		}
		select {
		case s.news <- news[T]{resolved: found}:
		case <-s.ctx.Done():
		}
	}()
}

// postpone sets when the candidate is asked again. The pause grows with every fault.
func (c *candidate) postpone(f *fault, isAlone bool, b backoff) {
	c.due = time.Now().Add(jittered(c.pause))
	if quick := isAlone && f.leader() != "" && c.refusals <= quickDials; !quick {
		c.pause = b.longer(c.pause)
	}
	if f.silent {
		c.attemptTimeout *= 2
	}
}

// lastWords returns the last fault of each node. A node without one did not answer in time.
func (s *search[T]) lastWords() map[string]*fault {
	faults := map[string]*fault{}
	for address, known := range s.known {
		if faults[address] = known.lastWord; known.lastWord == nil {
			faults[address] = silence()
		}
	}
	return faults
}

func (s *search[T]) noNodeServes() *Error {
	faults := s.lastWords()
	f := answeredOne(faults)
	if f == nil {
		f = unreachable("")
	}
	return f.ofRead().refusal(KindUnserved, "no node serves the request: "+byReason(faults))
}

func (s *search[T]) tooLate() *Error {
	if errors.Is(s.ctx.Err(), context.Canceled) {
		return cancelled()
	}
	return tooLate(s.lastWords())
}

// tooLate is the error of a call whose deadline passed during a search, so that nothing was sent that may have an
// effect. faults has the last fault of every node.
func tooLate(faults map[string]*fault) *Error {
	var failure *Error
	if f := answeredOne(faults); f != nil {
		message := "the cluster did not serve the request in time: " + byReason(faults)
		failure = f.ofRead().refusal(KindDeadline, message)
	} else {
		message := "the cluster cannot be reached in time: " + byReason(faults)
		failure = &Error{Kind: KindUnreachable, Code: codes.OK, Message: message}
	}
	failure.cause = context.DeadlineExceeded
	return failure
}

// answeredOne returns the fault of the first node that answered.
func answeredOne(faults map[string]*fault) *fault {
	for _, address := range sorted(faults) {
		if faults[address].answered {
			return faults[address]
		}
	}
	return nil
}

// byReason returns the faults as text, with the nodes of equal faults together.
func byReason(faults map[string]*fault) string {
	nodes := map[string][]string{}
	for _, address := range sorted(faults) {
		message := faults[address].message
		nodes[message] = append(nodes[message], address)
	}
	var parts []string
	for _, reason := range sorted(nodes) {
		parts = append(parts, fmt.Sprintf("%s: %s", strings.Join(nodes[reason], ", "), reason))
	}
	return strings.Join(parts, "; ")
}
