package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

const crashEnv = "DISK_TEST_CRASH" // seed and folder

func TestMain(m *testing.M) {
	if arg := os.Getenv(crashEnv); arg != "" {
		seed, dir, _ := strings.Cut(arg, " ")
		err := workUntilKilled(seed, dir)
		fmt.Println("error", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func crashData(i int) []byte { return storetest.Data(500+i%7*90_000, uint64(1000+i)) }

func crashFeed(i int) *storetest.Feed {
	return storetest.NewFeed(storetest.Data([]int{200_000, 3 << 20, 17 << 20}[i], 70))
}

// workUntilKilled adds blobs and writes parts of three others, and prints what is acknowledged.
func workUntilKilled(seedText, dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, dir, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	seed, err := strconv.Atoi(seedText)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	feeds := []*storetest.Feed{crashFeed(0), crashFeed(1), crashFeed(2)}
	for i, f := range feeds {
		if err := s.SetTag(ctx, fmt.Sprint("partial ", i), blobs.HashAndFormat{Hash: f.Hash}); err != nil {
			return err
		}
	}
	for i := seed * 1000; ; i++ {
		switch rnd.IntN(4) {
		case 0:
			tag, _, err := s.Add(ctx, bytes.NewReader(crashData(i)))
			if err != nil {
				return err
			}
			if err := s.SetTag(ctx, fmt.Sprint("add ", i), tag.HashAndFormat); err != nil {
				return err
			}
			tag.Release()
			fmt.Println("add", i)
		case 1:
			if _, err := s.Collect(ctx, nil); err != nil {
				return err
			}
			fmt.Println("collected")
		default:
			which := rnd.IntN(len(feeds))
			if err := workOnPartial(ctx, s, rnd, which, feeds[which]); err != nil {
				return err
			}
		}
	}
}

func workOnPartial(ctx context.Context, s *Store, rnd *rand.Rand, which int, f *storetest.Feed) error {
	p, err := f.Start(ctx, s)
	if errors.Is(err, blobs.ErrComplete) {
		fmt.Println("complete", which)
		return nil
	}
	if err != nil {
		return err
	}
	var wrote []string
	for range rnd.IntN(int(f.Groups()) / 2) {
		i := rnd.Uint64N(f.Groups())
		if err := f.Write(p, i); err != nil {
			return err
		}
		wrote = append(wrote, fmt.Sprint(i))
	}
	done, err := p.Complete(ctx)
	if err := errors.Join(err, p.Close()); err != nil {
		return err
	}
	if done {
		fmt.Println("complete", which)
	} else {
		fmt.Println("partial", which, strings.Join(wrote, " "))
	}
	return nil
}

// acked is what the child said before it died.
type acked struct {
	added    []int
	complete [3]bool
	groups   [3]map[uint64]bool
}

func (a *acked) line(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	var numbers []int
	for _, w := range words[1:] {
		n, err := strconv.Atoi(w)
		if err != nil {
			t.Fatal("child:", line)
		}
		numbers = append(numbers, n)
	}
	switch words[0] {
	case "add":
		a.added = append(a.added, numbers[0])
	case "complete":
		a.complete[numbers[0]] = true
	case "partial":
		for _, g := range numbers[1:] {
			a.groups[numbers[0]][uint64(g)] = true
		}
	case "collected":
	default:
		t.Fatal("child:", line)
	}
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	state := acked{groups: [3]map[uint64]bool{{}, {}, {}}}
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", crashEnv, round, dir))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for n := 0; lines.Scan(); n++ {
			state.line(t, lines.Text())
			if n == 4+round*3 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		checkAfterCrash(t, dir, &state)
	}
}

func checkAfterCrash(t *testing.T, dir string, state *acked) {
	t.Helper()
	s := openStore(t, dir)
	defer s.Close()
	for _, i := range state.added {
		data := crashData(i)
		storetest.Check(t, s, data)
		if tag, err := s.Tag(t.Context(), fmt.Sprint("add ", i)); err != nil || tag.Hash != blobs.Sum(data) {
			t.Errorf("tag of blob %d: %v, %v", i, tag, err)
		}
	}
	for which, groups := range state.groups {
		f := crashFeed(which)
		served, err := f.CheckServed(t.Context(), s)
		if err != nil {
			t.Errorf("partial blob %d: %v", which, err)
		}
		info, err := s.Info(t.Context(), f.Hash)
		if err != nil && (len(groups) > 0 || state.complete[which]) {
			t.Errorf("partial blob %d: %v", which, err)
		}
		if state.complete[which] && (!info.Complete || served != f.Groups()) {
			t.Errorf("blob %d was complete, and serves %d of %d groups", which, served, f.Groups())
		}
		for g := range groups {
			if !info.Have.Contains(g * bao.GroupChunks) {
				t.Errorf("group %d of partial blob %d was acknowledged and is gone", g, which)
			}
		}
		if err == nil {
			if err := s.Verify(t.Context(), f.Hash); err != nil {
				t.Errorf("partial blob %d: %v", which, err)
			}
		}
	}
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	err := s.eachFile(func(h blobs.Hash, suffix string, _ int64) error {
		if _, err := s.Info(t.Context(), h); err != nil {
			t.Errorf("file %s%s is left over: %v", h.Short(), suffix, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
