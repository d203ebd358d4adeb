package memory_test

import (
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/memory"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) blobs.Store { return memory.New() })
}
