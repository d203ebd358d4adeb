//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// profile is what a link does to packets; percentages are 0..100.
type profile struct {
	delay, jitter      time.Duration
	loss, dup, reorder float64
	rate               float64 // bytes per second, 0: unlimited
	down               bool
}

// set changes what the words name. After an error the profile is half changed: set a copy.
func (p *profile) set(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("want one or more of delay= jitter= loss= dup= reorder= rate= down up")
	}
	for _, word := range words {
		key, val, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "down":
			p.down = true
		case "up":
			p.down = false
		case "delay":
			p.delay, err = parseDelay(val)
		case "jitter":
			p.jitter, err = parseDelay(val)
		case "loss":
			p.loss, err = parsePercent(val)
		case "dup":
			p.dup, err = parsePercent(val)
		case "reorder":
			p.reorder, err = parsePercent(val)
		case "rate":
			p.rate, err = parseRate(val)
		default:
			err = fmt.Errorf("want delay, jitter, loss, dup, reorder, rate, down or up")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", word, err)
		}
	}
	return nil
}

func parseDelay(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > time.Minute {
		return 0, fmt.Errorf("want a duration of up to a minute, as 40ms")
	}
	return d, nil
}

func parsePercent(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 100) { // NaN too
		return 0, fmt.Errorf("want per cent, 0 to 100")
	}
	return v, nil
}

// parseRate reads 128kbit, 8mbit or 0 (no limit) as bytes per second.
func parseRate(s string) (float64, error) {
	if s == "0" {
		return 0, nil
	}
	for unit, bytes := range map[string]float64{"kbit": 1e3 / 8, "mbit": 1e6 / 8} {
		n, ok := strings.CutSuffix(s, unit)
		if !ok {
			continue
		}
		if v, err := strconv.ParseFloat(n, 64); err == nil && v > 0 && v <= 1e6 {
			return v * bytes, nil
		}
	}
	return 0, fmt.Errorf("want a number with kbit or mbit, or 0")
}
