package main

import (
	"context"
	"iter"

	seshat "github.com/seshat-kv/seshat/clients/go"
	pb "github.com/seshat-kv/seshat/clients/go/internal/conformancepb"
)

func (p *program) openSession(ctx context.Context, asked *pb.OpenSession) *pb.Response {
	client := get[*seshat.Client](p, asked.GetClient())
	opened := &pb.SessionOpened{}
	if ttl := optional(asked.GetTtl()); ttl != nil {
		session, err := client.OpenLivingSession(ctx, *ttl)
		if err != nil {
			return failed(err)
		}
		p.put(asked.GetSession(), session)
		opened.Id = session.ID()
	} else {
		session, err := client.OpenSession(ctx)
		if err != nil {
			return failed(err)
		}
		p.put(asked.GetSession(), session)
		opened.Id = session.ID()
	}
	return &pb.Response{Outcome: &pb.Response_SessionOpened{SessionOpened: opened}}
}

func (p *program) awaitLost(ctx context.Context, handle string) *pb.Response {
	living := get[interface{ Lost() <-chan struct{} }](p, handle)
	select {
	case <-living.Lost():
		return done()
	case <-ctx.Done():
		return failed(ctx.Err())
	}
}

func (p *program) lock(ctx context.Context, asked *pb.Lock) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	options := []seshat.LockOption{seshat.WithValue(asked.GetValue())}
	if ttl := optional(asked.GetTtl()); ttl != nil {
		options = append(options, seshat.WithLockTTL(*ttl))
	}
	locker := kv.(interface {
		Lock(context.Context, string, ...seshat.LockOption) (*seshat.Lock, error)
		TryLock(context.Context, string, maxWait, ...seshat.LockOption) (seshat.LockAttempt, error)
	})
	var attempt seshat.LockAttempt
	var err error
	if maxWait := optional(asked.GetMaxWait()); maxWait != nil {
		attempt, err = locker.TryLock(ctx, asked.GetName(), *maxWait, options...)
	} else {
		attempt.Lock, err = locker.Lock(ctx, asked.GetName(), options...)
	}
	if err != nil {
		return failed(err)
	}
	if attempt.Lock == nil {
		return &pb.Response{Outcome: &pb.Response_NotAcquired{NotAcquired: &pb.NotAcquired{}}}
	}
	p.put(asked.GetLock(), attempt.Lock)
	return &pb.Response{Outcome: &pb.Response_Acquired{Acquired: &pb.Acquired{Token: attempt.Lock.Token()}}}
}

// news is what a watch or an observation tells, one after the other.
type news struct {
	stop context.CancelFunc
	told chan *pb.Response
}

func newsOf[T any](tell func(context.Context) iter.Seq2[T, error], say func(T) *pb.Response) *news {
	ctx, stop := context.WithCancel(context.Background())
	n := &news{stop: stop, told: make(chan *pb.Response)}
	go func() {
		for item, err := range tell(ctx) {
			response := failed(err)
			if err == nil {
				response = say(item)
			}
			if response == nil {
				continue
			}
			select {
			case n.told <- response:
			case <-ctx.Done():
				return
			}
		}
	}()
	return n
}

func (p *program) next(ctx context.Context, handle string) *pb.Response {
	select {
	case response := <-get[*news](p, handle).told:
		return response
	case <-ctx.Done():
		return failed(ctx.Err())
	}
}

func (p *program) watch(asked *pb.Watch) *pb.Response {
	client := get[*seshat.Client](p, asked.GetClient())
	keys := seshat.Prefix(string(asked.GetPrefix()))
	if key, ok := asked.GetRange().(*pb.Watch_Key); ok {
		keys = seshat.Key(string(key.Key))
	}
	p.put(asked.GetWatch(), newsOf(func(ctx context.Context) iter.Seq2[seshat.Update, error] {
		return client.Watch(ctx, keys)
	}, updateOf))
	return done()
}

func (p *program) observe(asked *pb.Observe) *pb.Response {
	client := get[*seshat.Client](p, asked.GetClient())
	p.put(asked.GetObservation(), newsOf(func(ctx context.Context) iter.Seq2[*seshat.Holder, error] {
		return client.Observe(ctx, asked.GetName())
	}, func(holder *seshat.Holder) *pb.Response {
		is := &pb.HolderIs{}
		if holder != nil {
			is.Held, is.Value, is.Token = true, holder.Value, holder.Token
		}
		return &pb.Response{Outcome: &pb.Response_HolderIs{HolderIs: is}}
	}))
	return done()
}
