package memory

import (
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/veilidtest"
)

func TestConformance(t *testing.T) {
	perfect := func(*Network) {}
	for name, conditions := range map[string]func(*Network){
		"perfect": perfect,
		"distant": func(n *Network) { n.SetConditions(Conditions{Delay: 120 * time.Millisecond}) },
		"jittery": func(n *Network) { n.SetConditions(Conditions{Delay: time.Millisecond, Jitter: 300 * time.Millisecond}) },
	} {
		t.Run(name, func(t *testing.T) {
			veilidtest.Test(t, func(t *testing.T) veilidtest.Peers {
				net := NewNetwork(WithAttachTime(3 * time.Second))
				t.Cleanup(func() { net.Close() })
				conditions(net)
				nodes := []veilid.Node{net.NewNode("a"), net.NewNode("b"), net.NewNode("c")}
				for _, n := range nodes {
					if err := n.WaitReady(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				return veilidtest.Peers{Nodes: nodes}
			}, veilidtest.InBubble())
		})
	}
}
