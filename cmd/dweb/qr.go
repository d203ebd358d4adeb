package main

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quietZone is how many light modules the standard wants around a code.
const quietZone = 4

// drawQR draws text as a QR code, two rows of modules in one line of characters. With colour it looks right on dark and
// on light terminals; without, it is for light text on a dark ground.
func drawQR(text string, colour bool) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", fmt.Errorf("QR code: %w", err)
	}
	dark := func(x, y int) bool {
		return x >= 0 && y >= 0 && x < code.Size && y < code.Size && code.Black(x, y)
	}
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		if colour {
			b.WriteString("\x1b[97;40m") // light blocks on a dark ground
		}
		for x := -quietZone; x < code.Size+quietZone; x++ {
			switch top, bottom := dark(x, y), dark(x, y+1); {
			case top && bottom:
				b.WriteRune(' ')
			case top:
				b.WriteRune('▄')
			case bottom:
				b.WriteRune('▀')
			default:
				b.WriteRune('█')
			}
		}
		if colour {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
