package seshat

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// scripted is a node that answers as its test says, and leads unless told otherwise.
type scripted struct {
	kvpb.UnimplementedKvServiceServer
	address string
	// What it answers; nil: the write is applied.
	onGet func(context.Context) error
	onSet func(ctx context.Context, attempt int) error
	// Nil: it knows no locks.
	locks *scriptedLocks

	mu             sync.Mutex
	gets, closings int
	sets           []*kvpb.SetRequest
}

func (s *scripted) Get(ctx context.Context, asked *kvpb.GetRequest) (*kvpb.GetResponse, error) {
	s.mu.Lock()
	s.gets++
	s.mu.Unlock()
	if s.onGet != nil {
		if err := s.onGet(ctx); err != nil {
			return nil, err
		}
	}
	answer := &kvpb.GetResponse{Value: []byte("of " + s.address)}
	if asked.ClusterId == nil {
		answer.ClusterId = proto.Uint64(testCluster)
	}
	return answer, nil
}

func (s *scripted) Set(ctx context.Context, asked *kvpb.SetRequest) (*kvpb.SetResponse, error) {
	s.mu.Lock()
	s.sets = append(s.sets, asked)
	attempt := len(s.sets)
	s.mu.Unlock()
	if s.onSet != nil {
		if err := s.onSet(ctx, attempt); err != nil {
			return nil, err
		}
	}
	return &kvpb.SetResponse{AppliedIndex: uint64(attempt)}, nil
}

func (s *scripted) OpenSession(_ context.Context, asked *kvpb.OpenSessionRequest) (*kvpb.OpenSessionResponse, error) {
	return &kvpb.OpenSessionResponse{Ttl: asked.GetTtl()}, nil
}

func (s *scripted) CloseSession(context.Context, *kvpb.CloseSessionRequest) (*kvpb.CloseSessionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closings++
	return &kvpb.CloseSessionResponse{}, nil
}

func (s *scripted) ListSessions(
	_ context.Context, asked *kvpb.ListSessionsRequest,
) (*kvpb.ListSessionsResponse, error) {
	next := asked.GetAfterClientId() + 1
	return &kvpb.ListSessionsResponse{Sessions: []*kvpb.SessionInfo{{ClientId: next}}, More: next < 3}, nil
}

// start starts a node.
func start(t *testing.T, s *scripted) *scripted {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := grpc.NewServer()
	kvpb.RegisterKvServiceServer(server, s)
	if s.locks != nil {
		lockpb.RegisterLockServiceServer(server, s.locks)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return s
}

func clientOf(t *testing.T, options []Option, endpoints ...string) *Client {
	t.Helper()
	client, err := New(endpoints, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// isFailure checks what a call ended with.
func isFailure(t *testing.T, err error, kind Kind, applied Applied, reason Reason) {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) || failure.Kind != kind || failure.Applied != applied || failure.Reason != reason {
		t.Errorf("%#v, not %v, applied %v, %q", err, kind, applied, reason)
	}
}

func notLeader(leader string) error {
	detail := &kvpb.NotLeader{}
	if leader != "" {
		detail.LeaderAddr = proto.String(leader)
	}
	return refused(codes.FailedPrecondition, &kvpb.ErrorDetail{
		Applied: no, Reason: &kvpb.ErrorDetail_NotLeader{NotLeader: detail},
	})
}

func overloaded() error {
	return refused(codes.ResourceExhausted, &kvpb.ErrorDetail{
		Applied: no, Reason: &kvpb.ErrorDetail_Overloaded{Overloaded: &kvpb.Overloaded{}},
	})
}

func lost() error { return status.Error(codes.Unavailable, "lost") }

func TestAClientFollowsTheHintToANodeThatIsNoEndpoint(t *testing.T) {
	leader := start(t, &scripted{})
	follower := start(t, &scripted{onGet: func(context.Context) error { return notLeader(leader.address) }})
	found, err := clientOf(t, nil, follower.address).Get(t.Context(), "k")
	if err != nil || string(found.Value) != "of "+leader.address {
		t.Error(found, err)
	}
}

func TestTheHintOfALeaderThatWasReplacedIsFollowed(t *testing.T) {
	leader := start(t, &scripted{})
	former := start(t, &scripted{})
	former.onSet = func(context.Context, int) error {
		// From now on only its hint tells of the leader.
		former.onGet = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		return notLeader(leader.address)
	}
	client := clientOf(t, []Option{WithTrust(time.Hour)}, former.address)
	if _, err := client.Set(t.Context(), "k", nil); err != nil || len(leader.sets) != 1 {
		t.Error(err, leader.sets)
	}
}

func TestEveryAddressOfANameIsAsked(t *testing.T) {
	leader := start(t, &scripted{})
	follower := start(t, &scripted{onGet: func(context.Context) error { return notLeader("") }})
	_, port, _ := net.SplitHostPort(follower.address)
	client := clientOf(t, nil, "localhost:"+port)
	client.nodes.resolve = func(context.Context, string) []string { return []string{follower.address, leader.address} }
	found, err := client.Get(t.Context(), "k")
	if err != nil || string(found.Value) != "of "+leader.address {
		t.Error(found, err)
	}
}

func TestListsGoOnBehindTheLastOne(t *testing.T) {
	var sessions []uint64
	for session, err := range clientOf(t, nil, start(t, &scripted{}).address).LivingSessions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, session.ID)
	}
	if !slices.Equal(sessions, []uint64{1, 2, 3}) {
		t.Error(sessions)
	}
}

func TestANodeThatHangsCostsNoReadItsDeadline(t *testing.T) {
	hung := start(t, &scripted{onGet: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	leader := start(t, &scripted{})
	found, err := clientOf(t, nil, hung.address, leader.address).Get(t.Context(), "k")
	if err != nil || string(found.Value) != "of "+leader.address {
		t.Error(found, err)
	}
}

func TestAnUnknownOutcomeIsNotRepeatedWithoutASession(t *testing.T) {
	node := start(t, &scripted{onSet: func(context.Context, int) error { return lost() }})
	_, err := clientOf(t, nil, node.address).Set(t.Context(), "k", nil)
	isFailure(t, err, KindRefused, AppliedUnknown, "")
	if len(node.sets) != 1 {
		t.Errorf("it was sent %d times", len(node.sets))
	}
}

func TestAWriteThatWasNotAppliedIsRepeated(t *testing.T) {
	node := start(t, &scripted{onSet: func(_ context.Context, attempt int) error {
		if attempt < 3 {
			return overloaded()
		}
		return nil
	}})
	written, err := clientOf(t, nil, node.address).Set(t.Context(), "k", nil)
	if err != nil || written.Revision != 3 {
		t.Error(written, err)
	}
	// An overloaded node stays the leader.
	if node.gets != 1 {
		t.Errorf("%d searches", node.gets)
	}
}

func TestInASessionALostWriteIsRepeatedUnderItsNumber(t *testing.T) {
	node := start(t, &scripted{onSet: func(_ context.Context, attempt int) error {
		if attempt == 1 {
			return lost()
		}
		return nil
	}})
	session, err := clientOf(t, nil, node.address).OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	written, err := session.Set(t.Context(), "k", []byte("v"))
	if err != nil || written.Revision != 2 {
		t.Fatal(written, err)
	}
	if !proto.Equal(node.sets[0], node.sets[1]) || node.sets[0].GetSession().GetSequence() != 1 ||
		node.sets[0].GetSession().GetClientId() != session.ID() || node.sets[0].GetClusterId() != testCluster {
		t.Error(node.sets)
	}
}

func TestADoubtIsKeptOverALaterRefusal(t *testing.T) {
	node := start(t, &scripted{onSet: func(_ context.Context, attempt int) error {
		if attempt == 1 {
			return lost()
		}
		return refused(codes.FailedPrecondition, &kvpb.ErrorDetail{
			Applied: no, Reason: &kvpb.ErrorDetail_SessionExpired{SessionExpired: &kvpb.SessionExpired{}},
		})
	}})
	session, err := clientOf(t, nil, node.address).OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = session.Set(t.Context(), "k", nil)
	isFailure(t, err, KindRefused, AppliedUnknown, ReasonSessionExpired)
}

func TestAWriteThatIsCancelledMayHaveBeenApplied(t *testing.T) {
	for _, each := range []struct {
		applied Applied
		call    func(context.Context, *Client) error
	}{
		{AppliedUnknown, func(ctx context.Context, c *Client) error { _, err := c.Set(ctx, "k", nil); return err }},
		{AppliedNo, func(ctx context.Context, c *Client) error { _, err := c.Get(ctx, "k"); return err }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		hang := func(inner context.Context) error { cancel(); <-inner.Done(); return inner.Err() }
		node := start(t, &scripted{onSet: func(inner context.Context, _ int) error { return hang(inner) }})
		client := clientOf(t, []Option{WithTrust(time.Hour)}, node.address)
		if err := client.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		node.onGet = hang
		err := each.call(ctx, client)
		isFailure(t, err, KindCancelled, each.applied, "")
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestWithoutAConnectionNothingIsApplied(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	client := clientOf(t, []Option{WithTimeout(50 * shortest)}, address)
	_, err = client.Set(t.Context(), "k", nil)
	isFailure(t, err, KindUnreachable, AppliedNo, "")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestWhatNoNodeServesEndsAtOnce(t *testing.T) {
	unknown := func(context.Context) error { return status.Error(codes.Unimplemented, "no such method") }
	one, other := start(t, &scripted{onGet: unknown}), start(t, &scripted{onGet: unknown})
	_, err := clientOf(t, nil, one.address, other.address).Get(t.Context(), "k")
	isFailure(t, err, KindUnserved, AppliedNo, "")
}

func TestOnlyASuccessorOfTheClusterIsFollowed(t *testing.T) {
	for _, successor := range []bool{false, true} {
		foreign := func(context.Context) error {
			return refused(codes.FailedPrecondition, &kvpb.ErrorDetail{Applied: no, Reason: &kvpb.ErrorDetail_OtherCluster{
				OtherCluster: &kvpb.OtherCluster{ClusterId: 9, Successor: successor},
			}})
		}
		node := start(t, &scripted{onGet: foreign})
		client := clientOf(t, []Option{WithCluster(testCluster)}, node.address)
		_, err := client.Get(t.Context(), "k")
		followed := uint64(testCluster)
		if successor {
			followed = 9
		}
		isFailure(t, err, KindUnserved, AppliedNo, ReasonOtherCluster)
		if client.Cluster() != followed {
			t.Errorf("successor %v: %v, cluster %d", successor, err, client.Cluster())
		}
		only := clientOf(t, []Option{WithOnlyCluster(testCluster)}, node.address)
		if _, err := only.Get(t.Context(), "k"); err == nil || only.Cluster() != testCluster {
			t.Errorf("only: %v, cluster %d", err, only.Cluster())
		}
	}
}

func TestAClientThatIsClosedServesNothing(t *testing.T) {
	node := start(t, &scripted{})
	client := clientOf(t, nil, node.address)
	_ = client.Close()
	_, err := client.Set(t.Context(), "k", nil)
	isFailure(t, err, KindCancelled, AppliedNo, "")
}

func TestAClientThatIsClosedEndsItsSessionsFirst(t *testing.T) {
	for _, closedBefore := range []bool{false, true} {
		node := start(t, &scripted{})
		client := clientOf(t, nil, node.address)
		session, err := client.OpenLivingSession(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if closedBefore {
			// Its end goes on in the background.
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			isFailure(t, session.Close(ctx), KindCancelled, AppliedNo, "")
		}
		_ = client.Close()
		node.mu.Lock()
		closings := node.closings
		node.mu.Unlock()
		if closings != 1 || session.WhyLost() != Closed {
			t.Errorf("closed before: %v, closed %d times", closedBefore, closings)
		}
		_, err = session.Get(t.Context(), "k")
		isFailure(t, err, KindSessionLost, AppliedNo, "")
	}
}

func TestARequestThatIsAtFaultEndsASearch(t *testing.T) {
	node := start(t, &scripted{onGet: func(context.Context) error {
		return refused(codes.InvalidArgument, &kvpb.ErrorDetail{
			Applied: no, Reason: &kvpb.ErrorDetail_InvalidRequest{InvalidRequest: &kvpb.InvalidRequest{}},
		})
	}})
	_, err := clientOf(t, nil, node.address).Set(t.Context(), "k", nil)
	isFailure(t, err, KindRefused, AppliedNo, ReasonInvalidRequest)
}

// balance returns the address of a load balancer, which leads each connection to the next of the nodes.
func balance(t *testing.T, nodes ...*scripted) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}
	go func() {
		for i := 0; ; i++ {
			front, err := listener.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", nodes[i%len(nodes)].address)
			if err != nil {
				return
			}
			go pass(back, front)
			go pass(front, back)
		}
	}()
	return listener.Addr().String()
}

func TestBehindALoadBalancerTheLeaderIsFound(t *testing.T) {
	follow := func(context.Context) error { return notLeader("") }
	leader := start(t, &scripted{})
	endpoint := balance(t, start(t, &scripted{onGet: follow}), start(t, &scripted{onGet: follow}), leader)
	found, err := clientOf(t, nil, endpoint).Get(t.Context(), "k")
	if err != nil || string(found.Value) != "of "+leader.address {
		t.Error(found, err)
	}
}

func TestANodeIsJudgedByTheTimeThatItHadToAnswer(t *testing.T) {
	const address = "kv-1:6379"
	for _, each := range []struct {
		given, took time.Duration
		stays       bool
	}{
		// The program stood still meanwhile.
		{given: 5 * time.Millisecond, took: 500 * time.Millisecond, stays: true},
		{given: 500 * time.Millisecond, took: 5 * time.Millisecond, stays: false},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := clientOf(t, nil, address)
			client.nodes.found(address)
			ctx, cancel := context.WithTimeout(t.Context(), each.given)
			defer cancel()
			_, err := call(ctx, client.caller, once, func(context.Context, *node) (any, error) {
				time.Sleep(each.took)
				return nil, silence()
			})
			isFailure(t, err, KindDeadline, AppliedUnknown, "")
			leader, _ := client.nodes.known(0)
			if stays := leader == address && len(client.nodes.connections) == 1; stays != each.stays {
				t.Errorf("%+v: the leader is %q, on %d connections", each, leader, len(client.nodes.connections))
			}
		})
	}
}
