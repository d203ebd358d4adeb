package httpapi

import (
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
)

// Status is what a daemon is doing.
type Status struct {
	Status    string    `json:"status"` // "running"
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	Started   time.Time `json:"started"`
	Device    string    `json:"device,omitempty"`
	Engine    string    `json:"engine,omitempty"`
	Data      string    `json:"data,omitempty"`
	Attached  string    `json:"attachment"` // Veilid's name of the state
	Ready     bool      `json:"ready"`      // routes and the DHT can be used
	Route     string    `json:"route,omitempty"`
	Groups    int       `json:"groups"`
	Pending   int       `json:"pending"` // groups with writes that have not reached the network yet
	Jobs      int       `json:"jobs"`    // that run now
	LastEvent uint64    `json:"last_event"`
	Transfers []Moving  `json:"transfers,omitempty"`
}

// Moving is a transfer that runs.
type Moving struct {
	Blob      string  `json:"blob"`
	Size      uint64  `json:"size"` // 0 until proven
	Done      uint64  `json:"done"`
	Rate      float64 `json:"rate"` // bytes per second
	Providers int     `json:"providers"`
	Waiting   string  `json:"waiting,omitempty"`
}

// Group is a group that this device is in.
type Group struct {
	Key       string `json:"key"` // without any secret
	Name      string `json:"name"`
	CanWrite  bool   `json:"can_write"` // false: invited to read only
	Legacy    bool   `json:"legacy"`    // collections for members with the Rust app are published
	Published bool   `json:"published"` // all that was written here has reached the network
	Repo      string `json:"repo,omitempty"`
	Members   int    `json:"members"`
	Files     int    `json:"files"` // of all members
	Bytes     uint64 `json:"bytes"` // of their plaintexts
}

// Repo is a member's files.
type Repo struct {
	Key       string `json:"key"`
	Name      string `json:"name"`
	CanWrite  bool   `json:"can_write"` // the own one
	Published bool   `json:"published"`
	Root      string `json:"root,omitempty"` // hash of the manifest
	Problem   string `json:"problem,omitempty"`
	Files     int    `json:"files"`
	Bytes     uint64 `json:"bytes"`
}

// Member is a member of a group as this device knows it.
type Member struct {
	Repo     string    `json:"repo"`
	Name     string    `json:"name"`
	Own      bool      `json:"own"`
	Device   string    `json:"device,omitempty"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Away     bool      `json:"away"`
	Gone     bool      `json:"gone,omitempty"`
	Legacy   bool      `json:"legacy,omitempty"`
	Files    int       `json:"files"`
	Bytes    uint64    `json:"bytes"`
}

// Pong is a member's answer to a ping, or why there is none.
type Pong struct {
	Member Member  `json:"member"`
	RTT    float64 `json:"rtt_ms,omitempty"`
	Error  string  `json:"error,omitempty"`
	Code   string  `json:"code,omitempty"`
}

// File is a file as a repo lists it.
type File struct {
	Repo      string    `json:"repo"`
	Member    string    `json:"member"` // name of the repo
	Own       bool      `json:"own"`
	Name      string    `json:"name"`
	Size      int64     `json:"size"` // -1: not known until it is here
	MIME      string    `json:"mime,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Modified  time.Time `json:"modified,omitzero"`
	Blob      string    `json:"blob"`      // hash of the sealed file
	BlobSize  uint64    `json:"blob_size"` // 0: not known until it is here
	Held      uint64    `json:"held"`      // bytes of the blob that are on this device
	Local     bool      `json:"local"`     // all of it is on this device
	Published bool      `json:"published"` // members can see it
}

// Job is a job, with the code of the error that ended it.
type Job struct {
	backend.Job
	Code string `json:"code,omitempty"`
}

// Err is what made the job fail, nil if nothing did.
func (j Job) Err() error {
	if j.State != backend.JobFailed {
		return nil
	}
	return ErrorOf(internal.Status, j.Code, j.Error)
}

// Over reports whether the job is over.
func (j Job) Over() bool { return j.State != backend.JobRunning }

// Collected counts what a collection of garbage removed and left.
type Collected struct {
	Removed      int    `json:"removed"`
	RemovedBytes uint64 `json:"removed_bytes"`
	Kept         int    `json:"kept"`
	KeptBytes    uint64 `json:"kept_bytes"`
}

// Invite is the answer that holds secrets.
type Invite struct {
	Link     string `json:"link"`
	ReadOnly bool   `json:"read_only"`
}

// Bodies of requests.
type (
	// NewGroup makes a group; Member is how this device's repo in it is called, "" for a name that tells nothing.
	NewGroup struct {
		Name   string `json:"name"`
		Member string `json:"member,omitempty"`
	}
	// ChangeGroup changes what is given.
	ChangeGroup struct {
		Name   *string `json:"name,omitempty"`
		Legacy *bool   `json:"legacy,omitempty"`
	}
	// JoinGroup joins by a link; Name is how this device's repo in it is called.
	JoinGroup struct {
		Link string `json:"link"`
		Name string `json:"name,omitempty"`
	}
	// ChangeRepo renames the own repo.
	ChangeRepo struct {
		Name string `json:"name"`
	}
	// SyncRequest limits a synchronisation to one repo; "": all.
	SyncRequest struct {
		Repo string `json:"repo,omitempty"`
	}
	// VerifyRequest says whether corrupt blobs are fetched again.
	VerifyRequest struct {
		Repair bool `json:"repair"`
	}
)

// Answers that are lists: objects, so that something can be added to them.
type (
	// GroupList is in order of names.
	GroupList struct {
		Groups []Group `json:"groups"`
	}
	// RepoList begins with the own repo.
	RepoList struct {
		Repos []Repo `json:"repos"`
	}
	// MemberList begins with the own device.
	MemberList struct {
		Members []Member `json:"members"`
	}
	// PongList is in no order.
	PongList struct {
		Pongs []Pong `json:"pongs"`
	}
	// FileList is by repo, then by name.
	FileList struct {
		Files []File `json:"files"`
	}
	// JobList begins with the newest.
	JobList struct {
		Jobs []Job `json:"jobs"`
	}
)

// errorReply is the body of every failure.
type errorReply struct {
	Status string `json:"status"` // "error"
	Error  string `json:"error"`
	Code   string `json:"code"`
}
