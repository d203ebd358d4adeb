package invite_test

import (
	"errors"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/group/invite"
)

// A link that was damaged on its way names the part that is wrong, and never shows what it holds.
func ExampleParse() {
	_, err := invite.Parse("save+dweb::?dht=abc&enc=00&pk=00&sk=00")
	var wrong *invite.Error
	if errors.As(err, &wrong) {
		fmt.Println("wrong part:", wrong.Param)
	}
	// Output: wrong part: dht
}
