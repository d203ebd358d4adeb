package remote

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// benchServer answers app calls with an answer of a fixed size, and the rest as the fake does. It looks at requests no
// more than it must, since its time is counted as well.
func benchServer(b *testing.B, answer int) string {
	b.Helper()
	at := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", at)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	text := base64.RawURLEncoding.EncodeToString(make([]byte, answer))
	go func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		f := &fakeConn{f: &fake{t: b, serve: echo}, raw: raw, contexts: map[uint32]*jsonapi.SafetySelection{}}
		in := bufio.NewReaderSize(raw, 1<<20)
		out := bufio.NewWriterSize(raw, 1<<18)
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if bytes.Contains(line[:min(len(line), 80)], []byte(`"rc_op":"AppCall"`)) {
				const n = len(`{"id":`)
				end := n
				for line[end] >= '0' && line[end] <= '9' {
					end++
				}
				_, _ = out.WriteString(`{"type":"Response","id":`)
				_, _ = out.Write(line[n:end])
				_, _ = out.WriteString(`,"op":"RoutingContext","rc_id":1,"rc_op":"AppCall","value":"`)
				_, _ = out.WriteString(text)
				_, _ = out.WriteString("\"}\n")
				if in.Buffered() == 0 {
					_ = out.Flush()
				}
				continue
			}
			_ = out.Flush()
			id, r, err := jsonapi.ParseRequest(line)
			if err != nil {
				b.Error(err)
				return
			}
			f.request(id, r)
		}
	}()
	return at
}

// BenchmarkAppCall has calls through a server in the same process, over a unix socket. Bytes are those of the larger
// direction.
func BenchmarkAppCall(b *testing.B) {
	const big, small = veilid.MaxMessageSize, 4
	for _, size := range []struct{ question, answer int }{{big, small}, {small, big}, {small, small}} {
		for _, flight := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%d-%d/flight=%d", size.question, size.answer, flight), func(b *testing.B) {
				n, err := Dial(b.Context(), benchServer(b, size.answer), Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer n.Close()
				rc := n.Context(veilid.SafetySelection{})
				to := veilid.RouteTarget(must[veilid.RouteID](b, routeID))
				question := make([]byte, size.question)
				calls := make(chan struct{}, flight)
				var wg sync.WaitGroup
				b.SetBytes(int64(max(size.question, size.answer)))
				b.ReportAllocs()
				b.ResetTimer()
				for range flight {
					wg.Go(func() {
						for range calls {
							if a, err := rc.AppCall(b.Context(), to, question); err != nil || len(a) != size.answer {
								b.Errorf("%d bytes, %v", len(a), err)
							}
						}
					})
				}
				for range b.N {
					calls <- struct{}{}
				}
				close(calls)
				wg.Wait()
				b.StopTimer()
			})
		}
	}
}
