package exchange

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

func (m *member) window(peer string) (size int, rtt time.Duration) {
	for _, l := range m.x.linksWhere(func(l *link) bool { return l.key.peer == peer }) {
		l.mu.Lock()
		size, rtt = l.win.Size(), l.win.RTT()
		l.mu.Unlock()
	}
	return size, rtt
}

func TestDebugSpeed(t *testing.T) {
	for _, rtt := range []time.Duration{3 * time.Millisecond, 60 * time.Millisecond, 490 * time.Millisecond} {
		for _, rate := range []int{0, 500_000, 4_000_000, 18_000_000} {
			for _, loss := range []float64{0, 0.01, 0.05, 0.1} {
				t.Run(fmt.Sprint(rtt, rate, loss), func(t *testing.T) {
					run(t, func(t *testing.T, w *world) {
						w.net.SetConditions(memory.Conditions{Delay: rtt / 2, Jitter: rtt / 10, Loss: loss / 2})
						a, b := w.member("a"), w.member("b")
						a.node.SetRate(rate, 0)
						want := data(20 << 20)
						h := add(t, want, a)
						peak := 0
						req := request(h, a)
						req.Progress = func(p Progress) {
							s, r := b.window("a")
							peak = max(peak, s)
							if testing.Verbose() {
								t.Logf("%s size %d rtt %v inflight %d done %d rate %.1f wait %q", time.Now().Format("05.000"), s, r, p.Providers[0].InFlight, p.Done, p.Rate/1e6, p.Waiting)
							}
						}
						begun := time.Now()
						ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
						defer cancel()
						_, err := b.x.Fetch(ctx, req)
						d := time.Since(begun)
						s, r := b.window("a")
						fmt.Printf("rtt %v rate %.1f loss %.2f: %v %s window %d peak %d srtt %v %v\n", rtt, float64(rate)/1e6, loss, d, mbps(len(want), d), s, peak, r, err)
					})
				})
			}
		}
	}
}
