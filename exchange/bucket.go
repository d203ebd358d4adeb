package exchange

import (
	"context"
	"math"
	"sync"
	"time"
)

// bucket lets through so many bytes per second, and a quarter of a second's worth at once. A nil bucket has no limit.
type bucket struct {
	rate, burst float64

	mu     sync.Mutex
	tokens float64 // negative where the future is promised away
	at     time.Time
}

func newBucket(rate float64) *bucket {
	if rate <= 0 {
		return nil
	}
	burst := max(rate/4, 64<<10)
	return &bucket{rate: rate, burst: burst, tokens: burst, at: time.Now()}
}

func (b *bucket) fill() {
	now := time.Now()
	b.tokens = min(b.tokens+b.rate*now.Sub(b.at).Seconds(), b.burst)
	b.at = now
}

// take takes n bytes if they are there now; otherwise it says how long until they will be.
func (b *bucket) take(n int) (wait time.Duration) {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	if need := min(float64(n), b.burst) - b.tokens; need > 0 {
		return b.duration(need)
	}
	b.tokens -= float64(n)
	return 0
}

// reserve takes n bytes in any case and says how long to wait before using them.
func (b *bucket) reserve(n int) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.tokens -= float64(n)
	return b.duration(-b.tokens)
}

// await takes n bytes and waits until they may be used.
func (b *bucket) await(ctx context.Context, n int) error {
	wait := b.reserve(n)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		b.giveBack(n)
		return context.Cause(ctx)
	}
}

// backlog is how long n more bytes would wait.
func (b *bucket) backlog(n int) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	return b.duration(float64(n) - b.tokens)
}

// duration is rounded up: waking too early would mean waiting again.
func (b *bucket) duration(bytes float64) time.Duration {
	return max(0, time.Duration(math.Ceil(bytes/b.rate*float64(time.Second))))
}

// giveBack returns what was taken and not used.
func (b *bucket) giveBack(n int) {
	if b == nil || n <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+float64(n), b.burst)
}

// meter measures a rate over the last seconds.
type meter struct {
	value float64
	at    time.Time
}

const meterSpan = 2 * time.Second

func (m *meter) add(now time.Time, bytes int) {
	m.value = m.rate(now) + float64(bytes)/meterSpan.Seconds()
	m.at = now
}

func (m *meter) rate(now time.Time) float64 {
	if m.at.IsZero() {
		return 0
	}
	return m.value * math.Exp(-now.Sub(m.at).Seconds()/meterSpan.Seconds())
}
