package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

// getFlags are the choices of get.
type getFlags struct {
	out     string
	from    string
	force   bool
	timeout time.Duration
}

func (a *app) get() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use: "get G NAME", Short: "Bring a file here and write it to disk",
		Long: "Bring a file here, from every member that holds it, and write it to disk. While nobody can be reached it waits. When it is\nended before its time, what has arrived is kept: the same command goes on from there.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeGroupFile,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			return a.getFile(ctx, c, args[0], args[1], f)
		}),
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.out, "output", "o", "", "where to write it: a file, a folder, or - for standard output (default: its name, here)")
	fl.StringVar(&f.from, "from", "", "the member whose file is meant, where several have one of that name")
	fl.BoolVar(&f.force, "force", false, "replace a file that is there")
	fl.DurationVar(&f.timeout, "timeout", 0, "give up after so long, such as 90s (default: wait)")
	cmd.RegisterFlagCompletionFunc("from", a.completeMemberFlag) //nolint:errcheck // the flag is there
	return cmd
}

// got is what get has done.
type got struct {
	httpapi.File
	Path    string  `json:"path"`
	Fetched uint64  `json:"fetched"` // bytes of the blob that came now
	Seconds float64 `json:"seconds"`
}

func (a *app) getFile(ctx context.Context, c *client.Client, groupRef, name string, f getFlags) error {
	file, err := find(ctx, c, groupRef, name, f.from)
	if err != nil {
		return err
	}
	dest, err := destination(f, file.Name)
	if err != nil {
		return err
	}
	began := time.Now()
	var came uint64
	if !file.Local {
		if came, err = a.fetch(ctx, c, groupRef, file, f.timeout); err != nil {
			return err
		}
		if file, err = c.File(ctx, groupRef, file.Repo, file.Name); err != nil {
			return err
		}
	}
	took := time.Since(began)
	if dest == "-" {
		return copyFile(ctx, c, groupRef, file, a.out)
	}
	if err := save(ctx, c, groupRef, file, dest, f.force); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: nothing was written", errInterrupted)
		}
		return err
	}
	return a.show(got{file, dest, came, time.Since(began).Seconds()}, func() {
		how := ""
		if came > 0 {
			how = fmt.Sprintf(", %s came in %v, %s/s", bytesText(came), took.Round(100*time.Millisecond), bytesText(float64(came)/took.Seconds()))
		}
		a.printf("%s  %s%s\n", clean(dest), bytesText(file.Size), how)
	})
}

// find is the file that a person means. Several members may have files of one name: where they are the same it does not
// matter which is meant.
func find(ctx context.Context, c *client.Client, groupRef, name, from string) (httpapi.File, error) {
	if from != "" {
		return c.File(ctx, groupRef, from, name)
	}
	files, err := c.Find(ctx, groupRef, name)
	if err != nil {
		return httpapi.File{}, err
	}
	if len(files) == 0 {
		return httpapi.File{}, fmt.Errorf("%w: %q", group.ErrFileNotFound, name)
	}
	var members []string
	for _, f := range files {
		members = append(members, fmt.Sprintf("%s (%s)", f.Member, shortKey(f.Repo)))
	}
	for _, f := range files[1:] {
		if f.Blob != files[0].Blob {
			return httpapi.File{}, fmt.Errorf("%w: %d members have different files %q: %s: say which with --from",
				backend.ErrAmbiguous, len(files), name, strings.Join(members, ", "))
		}
	}
	return files[0], nil
}

// destination is where to write a file, and refuses what is not to be replaced.
func destination(f getFlags, name string) (string, error) {
	dest := f.out
	if dest == "-" {
		return dest, nil
	}
	if dest == "" || isDir(dest) || os.IsPathSeparator(dest[len(dest)-1]) {
		// The name comes from another member: it must not lead out of the folder.
		if err := group.CheckFileName(name); err != nil {
			return "", fmt.Errorf("the member gave the file a name that cannot be used here: say one with -o: %w", err)
		}
		dest = filepath.Join(dest, name)
	}
	if isDir(dest) {
		return "", fmt.Errorf("%s is a folder: say another name with -o", dest)
	}
	if _, err := os.Lstat(dest); err == nil && !f.force {
		return "", exists(dest)
	}
	if dir := filepath.Dir(dest); !isDir(dir) {
		return "", fmt.Errorf("folder %s: %w", dir, fs.ErrNotExist)
	}
	return dest, nil
}

func exists(path string) error {
	return fmt.Errorf("%w: %s: --force replaces it, -o writes elsewhere", group.ErrFileExists, path)
}

// fetch brings a file to the device. It returns how many bytes came for it meanwhile.
func (a *app) fetch(ctx context.Context, c *client.Client, groupRef string, file httpapi.File, limit time.Duration) (uint64, error) {
	job, err := c.Fetch(ctx, groupRef, file.Repo, file.Name)
	if err != nil {
		return 0, err
	}
	end, err := a.follow(ctx, c, job, file.Name, limit)
	return end.Done - min(job.Done, end.Done), err
}

// follow shows a job until it has ended. When the person or the time limit ends it the job is cancelled.
func (a *app) follow(ctx context.Context, c *client.Client, job httpapi.Job, what string, limit time.Duration) (httpapi.Job, error) {
	fctx, cancel := ctx, context.CancelFunc(func() {})
	if limit > 0 {
		fctx, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	b := a.jobBar(what)
	defer b.end()
	var last httpapi.Job
	end, err := c.Follow(fctx, job.ID, func(j httpapi.Job) {
		last = j
		b.job(j)
	})
	switch {
	case err == nil && end.State == backend.JobCanceled:
		return end, errors.New("the job was cancelled; what has arrived is kept: the same command goes on from there")
	case err == nil || fctx.Err() == nil:
		return end, err
	}
	b.end()
	// The command's own context has ended; the daemon must be told all the same.
	cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	if _, cerr := c.CancelJob(cctx, job.ID); cerr != nil && !errors.Is(cerr, backend.ErrJobNotFound) {
		a.note("the job goes on: %v", cerr)
	}
	kept := fmt.Sprintf("%s of %s here; the same command goes on from there", bytesText(last.Done), bytesText(last.Total))
	if ctx.Err() != nil {
		return last, fmt.Errorf("%w: %s", errInterrupted, kept)
	}
	why := last.Waiting
	if why == "" {
		why = "it takes longer"
	}
	return last, fmt.Errorf("%w within %v: %s: %s", exchange.ErrUnreachable, limit, clean(why), kept)
}

// save writes a file under a name of its own beside dest and then gives it dest's name: dest is never there in part.
func save(ctx context.Context, c *client.Client, groupRef string, file httpapi.File, dest string, force bool) (err error) {
	part := dest + "." + rand.Text()[:6] + ".part"
	w, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		w.Close()
		os.Remove(part) // after success it has another name
	}()
	if err := copyFile(ctx, c, groupRef, file, w); err != nil {
		return err
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return fmt.Errorf("write %s: %w", part, err)
	}
	if !file.Modified.IsZero() {
		os.Chtimes(part, time.Time{}, file.Modified) //nolint:errcheck // a nicety
	}
	if err := rename(part, dest, force); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(dest))
}

// rename gives a file its final name. Unless forced, one that came there meanwhile is not replaced.
func rename(from, to string, force bool) error {
	if !force {
		err := os.Link(from, to)
		if err == nil {
			return os.Remove(from)
		}
		if _, serr := os.Lstat(to); serr == nil {
			return exists(to)
		}
		// This file system has no links.
	}
	return os.Rename(from, to)
}

func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyFile writes the bytes of a file that is on the device.
func copyFile(ctx context.Context, c *client.Client, groupRef string, file httpapi.File, w io.Writer) error {
	r, size, err := c.Open(ctx, groupRef, file.Repo, file.Name, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, r)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%q has %d bytes, but %d came", file.Name, size, n)
	}
	return nil
}
