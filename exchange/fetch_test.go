package exchange

import (
	"fmt"
	"testing"
	"time"
)

func TestFetchSizes(t *testing.T) {
	for _, n := range []int{0, 1, 1023, 1024, 1025, 16384, 16385, 28*1024 - 1, 28 * 1024, 28*1024 + 1, 100_000, 245_760, 1_000_003, 5 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				a, b := w.member("a"), w.member("b")
				want := data(n)
				h := add(t, want, a)
				b.fetch(t, request(h, a), want, time.Minute)
			})
		})
	}
}
