// Command bench measures the program against what the machine, or the network between the same two nodes, can do at
// best, both sides in one run. It prints one JSON line for each figure:
//
//	{"name":"transfer.loopback","value":12.1,"unit":"MB/s","reference":15.2,"ratio":0.80}
//
//	bench [NAME...]     all figures, or those whose names begin so
//
// Figures of transfers need root: they run on a lab of real Veilid nodes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// figure is one measurement. Ratio is ours / reference.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
	Note      string  `json:"note,omitempty"`
}

// measurements are all that there is, in the order in which they run. One may print several figures.
var measurements = []struct {
	names []string
	run   func(ctx context.Context, print func(figure)) error
}{
	{[]string{"store.add"}, storeAdd},
	{[]string{"transfer.loopback"}, transferLoopback},
	{[]string{"transfer.40ms", "transfer.40ms-vs-stop-and-wait"}, transferFar},
	{[]string{"transfer.40ms-1pc"}, transferLossy},
	{[]string{"providers.3"}, threeProviders},
	{[]string{"rss.4GiB"}, bigFile},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := false
	for _, m := range measurements {
		if !wanted(m.names, os.Args[1:]) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", strings.Join(m.names, ", "))
		if err := m.run(ctx, emit); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", m.names[0], err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func wanted(names, only []string) bool {
	if len(only) == 0 {
		return true
	}
	for _, n := range names {
		for _, o := range only {
			if strings.HasPrefix(n, o) {
				return true
			}
		}
	}
	return false
}

func emit(f figure) {
	if f.Reference != 0 {
		f.Ratio = f.Value / f.Reference
	}
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // numbers and strings
	}
	fmt.Println(string(b))
}
