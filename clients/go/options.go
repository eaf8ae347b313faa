package seshat

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Option is a setting of a [Client].
type Option func(*options)

type options struct {
	timeout        time.Duration
	connectTimeout time.Duration
	// Longest first wait for one node.
	attemptTimeout time.Duration
	// How long an answer of the leader counts as proof that it leads, before a write that may not be sent twice.
	trust   time.Duration
	backoff backoff
	// Claims whose state is asked for at once.
	awaits int
	// The cluster whose answers count; 0: that of the first answer.
	cluster uint64
	// Whether a cluster that was recovered from that one takes its place.
	follows   bool
	logger    *slog.Logger
	recovered func(former, successor uint64)
	clock     clock
	// Returns the addresses of a host:port.
	resolve func(ctx context.Context, address string) []string
}

func defaults() options {
	return options{
		timeout:        5 * time.Second,
		connectTimeout: time.Second,
		attemptTimeout: time.Second,
		trust:          time.Second,
		backoff:        backoff{min: 20 * time.Millisecond, max: 500 * time.Millisecond},
		awaits:         maxAwaits,
		follows:        true,
		logger:         slog.Default(),
		recovered:      func(uint64, uint64) {},
		clock:          systemClock,
		resolve:        lookUp,
	}
}

// Most claims whose state a client asks for at once. A node takes 4096 calls of one connection by default, and scans and
// observers use the same one. A question without a place there would have no answer in time, as if its node were gone.
const maxAwaits = 3072

// The shortest timeout and pause: with less, no call would be answered in time, or attempts would have no pause.
const shortest = time.Millisecond

// WithTimeout sets the timeout of a whole call, searches and retries included, whose context has no deadline.
// Default: 5 s.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = max(timeout, shortest) }
}

// WithConnectTimeout sets the longest wait for a connection. Default: 1 s.
func WithConnectTimeout(timeout time.Duration) Option {
	return func(o *options) { o.connectTimeout = max(timeout, shortest) }
}

// WithAttemptTimeout sets how long one node may take to answer before another one is tried, where a retry is safe.
// It is never more than a third of the time that is left, and doubles after each silence. Default: 1 s.
func WithAttemptTimeout(timeout time.Duration) Option {
	return func(o *options) { o.attemptTimeout = max(timeout, shortest) }
}

// WithTrust sets how long an answer of the leader is trusted. A write without a session is sent once, so it should
// reach a leader that answers: if the last answer is older, a read goes ahead of the write. Default: 1 s.
func WithTrust(age time.Duration) Option {
	return func(o *options) { o.trust = max(age, 1) }
}

// WithBackoff sets the first and the longest pause between two attempts. Of each pause a random half is left out.
// Default: 20 ms and 500 ms.
func WithBackoff(first, longest time.Duration) Option {
	return func(o *options) {
		longest = max(longest, shortest)
		o.backoff = backoff{min: min(max(first, shortest), longest), max: longest}
	}
}

// WithCluster names the cluster that the client belongs to. Without it, the client takes the first cluster that
// answers.
func WithCluster(id uint64) Option {
	return func(o *options) { o.cluster = id }
}

// WithOnlyCluster is [WithCluster], but the client does not follow a recovery either: if an operator recovers
// another cluster from this one, calls end with [ReasonOtherCluster].
func WithOnlyCluster(id uint64) Option {
	return func(o *options) { o.cluster, o.follows = id, false }
}

// WithLogger sets where warnings go: another cluster answers, or the cluster was recovered. Default:
// [slog.Default].
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// WithRecovered sets what is called when an operator has recovered another cluster from the one of the client, and
// the client follows: acknowledged writes may be lost, and sessions have ended. It must not block.
func WithRecovered(call func(former, successor uint64)) Option {
	return func(o *options) { o.recovered = call }
}

func lookUp(ctx context.Context, address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil {
		return nil
	}
	hosts, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil
	}
	addresses := make([]string, len(hosts))
	for i, host := range hosts {
		addresses[i] = net.JoinHostPort(host, port)
	}
	return addresses
}
