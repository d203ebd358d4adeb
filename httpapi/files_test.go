package httpapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

func TestPutAndGet(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	ctx := t.Context()
	modified := time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, size := range []int{0, 1, 30, 65_536, 1 << 20, 3<<20 + 5} {
		name := fmt.Sprintf("ä %d %%.jpg", size)
		data := bytesOf(size)
		f, err := d.Put(ctx, "G", name, bytes.NewReader(data), client.PutOptions{Size: int64(size), Modified: modified})
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != name || f.Size != int64(size) || f.MIME != "image/jpeg" || !f.Local || f.Published || !f.Own || !f.Modified.Equal(modified) {
			t.Errorf("put: %+v", f)
		}
		if got := d.read("G", "me", name); !bytes.Equal(got, data) {
			t.Errorf("%s: other bytes came back", name)
		}
		again, err := d.Put(ctx, "G", "again "+name, io.LimitReader(bytes.NewReader(data), 1<<40), client.PutOptions{Size: -1, MIME: "video/mp4"})
		if err != nil || again.Blob != f.Blob || again.MIME != "video/mp4" {
			t.Errorf("the same bytes by an upload of unknown length: %+v, %v", again, err)
		}
	}
	files, err := d.Files(ctx, "G", "me")
	if err != nil || len(files) != 12 {
		t.Errorf("%d files, %v: want 12", len(files), err)
	}
	if found, err := d.Find(ctx, "G", "ä 30 %.jpg"); err != nil || len(found) != 1 || found[0].Size != 30 {
		t.Errorf("found %+v, %v", found, err)
	}
	if found, err := d.Find(ctx, "G", "no such"); err != nil || len(found) != 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	if err := d.Delete(ctx, "G", "me", "ä 30 %.jpg"); err != nil {
		t.Error(err)
	}
	if _, err := d.File(ctx, "G", "me", "ä 30 %.jpg"); !errors.Is(err, group.ErrFileNotFound) {
		t.Errorf("a deleted file: %v", err)
	}
}

func TestNoReplace(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	d.put("G", "a.txt", []byte("old"))
	// The refusal must come before the bytes: the reader would never end.
	_, err := d.Put(t.Context(), "G", "a.txt", endless{}, client.PutOptions{Size: -1, NoReplace: true})
	if !errors.Is(err, group.ErrFileExists) {
		t.Errorf("got %v, want %v", err, group.ErrFileExists)
	}
	if got := d.read("G", "me", "a.txt"); string(got) != "old" {
		t.Errorf("the file is %q now", got)
	}
	d.put("G", "a.txt", []byte("new"))
	if got := d.read("G", "me", "a.txt"); string(got) != "new" {
		t.Errorf("the file is %q, want what replaced it", got)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestRanges(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	data := bytesOf(200_000)
	f := d.put("G", "a.png", data)
	const path = "/v1/groups/G/repos/me/files/a.png"
	etag := `"` + f.Blob + `"`
	for _, c := range []struct {
		method string
		header []string
		status int
		want   []byte
	}{
		{"GET", nil, 200, data},
		{"HEAD", nil, 200, nil},
		{"GET", []string{"Range", "bytes=0-9"}, 206, data[:10]},
		{"GET", []string{"Range", "bytes=65530-65550"}, 206, data[65530:65551]},
		{"GET", []string{"Range", "bytes=-5"}, 206, data[199_995:]},
		{"GET", []string{"Range", "bytes=199999-"}, 206, data[199_999:]},
		{"GET", []string{"Range", "bytes=200000-"}, 416, nil},
		{"GET", []string{"If-None-Match", etag}, 304, nil},
		{"GET", []string{"Range", "bytes=0-9", "If-Range", `"other"`}, 200, data},
		{"GET", []string{"If-Match", `"other"`}, 412, nil},
	} {
		res, body := d.raw(c.method, path, "", c.header...)
		if res.StatusCode != c.status || c.want != nil && body != string(c.want) {
			t.Errorf("%s %q: %s, %d bytes", c.method, c.header, res.Status, len(body))
		}
		if c.status < 300 && (res.Header.Get("ETag") != etag || res.Header.Get("Content-Type") != "image/png" || res.Header.Get("Accept-Ranges") != "bytes" ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(res.Header.Get("Content-Security-Policy"), "sandbox")) {
			t.Errorf("%s %q: header %v", c.method, c.header, res.Header)
		}
		if c.method == "HEAD" && res.ContentLength != 200_000 {
			t.Errorf("HEAD tells %d bytes", res.ContentLength)
		}
	}
	r, size, err := d.Open(t.Context(), "G", "me", "a.png", 199_990)
	if err != nil || size != 200_000 {
		t.Fatalf("size %d, %v", size, err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[199_990:]) {
		t.Errorf("from an offset: %d bytes, %v", len(got), err)
	}
}

func TestDisposition(t *testing.T) {
	for _, c := range []struct{ name, mime, want string }{
		{"a.jpg", "image/jpeg", `inline; filename=a.jpg`},
		{"a b.mp4", "video/mp4", `inline; filename="a b.mp4"`},
		{"ä.txt", "text/plain", `attachment; filename*=utf-8''%C3%A4.txt`},
		{"a.html", "text/html", `attachment; filename=a.html`},
		{"a.svg", "image/svg+xml", `attachment; filename=a.svg`},
		{"a.svg", "IMAGE/SVG+XML; x=y", `attachment; filename=a.svg`},
		{"../../etc/passwd", "image/png", `inline; filename=.._.._etc_passwd`},
		{`..\x`, "", `attachment; filename=.._x`},
		{"..", "", `attachment`},
		{"a\r\nSet-Cookie: x", "", `attachment`},
		{"", "", `attachment`},
		{`a"b`, "", `attachment; filename="a\"b"`},
	} {
		if got := httpapi.Disposition(group.File{Name: c.name, MIME: c.mime}); got != c.want {
			t.Errorf("%q of %q: %s, want %s", c.name, c.mime, got, c.want)
		}
	}
	for _, c := range []struct{ mime, want string }{
		{"image/png", "image/png"},
		{"text/plain; charset=utf-8", "text/plain; charset=utf-8"},
		{"", "application/octet-stream"},
		{"nonsense", "application/octet-stream"},
		{"text/html\r\nX: y", "application/octet-stream"},
	} {
		if got := httpapi.SafeType(c.mime); got != c.want {
			t.Errorf("%q: %q, want %q", c.mime, got, c.want)
		}
	}
}

// TestBrokenUpload shows that nothing is kept of an upload that does not come to its end.
func TestBrokenUpload(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	for what, head := range map[string]string{
		"chunked":      "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"known length": "Content-Length: 100\r\n\r\nhello",
	} {
		c, err := net.Dial("unix", d.socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /v1/groups/G/files/a.bin HTTP/1.1\r\nHost: dweb\r\n%s", head)
		if err := c.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") || strings.HasPrefix(string(b), "HTTP/1.1 2") {
			t.Errorf("%s: %q, %v", what, b, err)
		}
		c.Close()
		if fs, err := d.Files(t.Context(), "G", ""); err != nil || len(fs) != 0 {
			t.Errorf("%s: %+v, %v after an upload that broke off", what, fs, err)
		}
	}
	broken := errors.New("the disk that is read from is broken")
	_, err := d.Put(t.Context(), "G", "b.bin", io.MultiReader(strings.NewReader("begin"), failing{broken}), client.PutOptions{Size: -1})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestStalledUpload(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	d.handler.SetTimes(20*time.Millisecond, time.Minute)
	c, err := net.Dial("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "PUT /v1/groups/G/files/a.bin HTTP/1.1\r\nHost: dweb\r\nContent-Length: 100\r\n\r\nhello")
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408") || !strings.Contains(string(b), `"code":"stalled"`) {
		t.Errorf("%q, %v", b, err)
	}
}

// TestCorruptDownload shows that who reads a damaged file is told of it, and never gets a wrong byte.
func TestCorruptDownload(t *testing.T) {
	const size = 4 << 20
	data := bytesOf(size)
	for _, at := range []int64{100, 3 << 20} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			d := prepare(t, network(t), "a")
			d.create("G")
			d.put("G", "a.bin", data)
			d.damage(at)
			r, _, err := d.Open(t.Context(), "G", "me", "a.bin", 0)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, blobs.ErrCorrupt) {
				t.Errorf("got %v, want %v", err, blobs.ErrCorrupt)
			}
			if int64(len(got)) > at || !bytes.Equal(got, data[:len(got)]) {
				t.Errorf("%d bytes came, which are not the first of the file", len(got))
			}
		})
	}
}

// damage changes a byte of the largest file of the store.
func (d *device) damage(at int64) {
	d.t.Helper()
	var path string
	var size int64
	err := filepath.WalkDir(filepath.Join(d.dir, "blobs"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > size && filepath.Ext(p) == ".data" {
			path, size = p, info.Size()
		}
		return err
	})
	if err != nil || path == "" {
		d.t.Fatalf("no file to damage: %v", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		d.t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		d.t.Fatal(err)
	}
}

func TestVerifyAndCollect(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	ctx := t.Context()
	d.put("G", "a.bin", bytesOf(1<<20+1))
	d.put("G", "b.bin", bytesOf(100_000))
	run := func() (httpapi.Job, error) {
		j, err := d.Verify(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		return d.Follow(ctx, j.ID, func(httpapi.Job) {})
	}
	if j, err := run(); err != nil || j.FilesDone < 2 || j.FilesDone != j.Files {
		t.Errorf("verify: %+v, %v", j, err)
	}
	d.damage(5)
	j, err := run()
	if !errors.Is(err, blobs.ErrCorrupt) || j.Failed != 1 || j.Code != "corrupt" {
		t.Errorf("verify of a damaged store: %+v, %v", j, err)
	}
	if js, err := d.Jobs(ctx); err != nil || len(js) != 2 || js[0].Code != "corrupt" || js[1].Code != "" {
		t.Errorf("jobs: %+v, %v", js, err)
	}
	if err := d.Delete(ctx, "G", "me", "a.bin"); err != nil {
		t.Fatal(err)
	}
	// Members may still be fetching what was published; nothing was.
	if c, err := d.Collect(ctx); err != nil || c.Removed == 0 || c.RemovedBytes < 1<<20 {
		t.Errorf("collected: %+v, %v", c, err)
	}
}
