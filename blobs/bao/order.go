package bao

import (
	"bufio"
	"fmt"
	"io"
)

// An outboard in pre-order has each pair before its halves, one in post-order behind them. Either way a subtree's
// pairs lie together, in as many bytes, so that whole subtrees are turned over in memory.
const flipGroups = 1 << 10

// PreOrder turns an outboard from post-order to pre-order. Its length is a multiple of PairSize.
func PreOrder(post []byte) []byte {
	pre := make([]byte, len(post))
	flip(pre, post, uint64(len(post)/PairSize)+1, true)
	return pre
}

// PostOrder turns an outboard from pre-order to post-order. Its length is a multiple of PairSize.
func PostOrder(pre []byte) []byte {
	post := make([]byte, len(pre))
	flip(post, pre, uint64(len(pre)/PairSize)+1, false)
	return post
}

// flip turns over the pairs of a subtree of so many groups.
func flip(dst, src []byte, groups uint64, toPre bool) {
	if groups <= 1 {
		return
	}
	last := len(src) - PairSize
	left := (leftHalf(groups) - 1) * PairSize
	if toPre {
		copy(dst, src[last:])
		dst, src = dst[PairSize:], src[:last]
	} else {
		copy(dst[last:], src[:PairSize])
		dst, src = dst[:last], src[PairSize:]
	}
	flip(dst[:left], src[:left], leftHalf(groups), toPre)
	flip(dst[left:], src[left:], groups-leftHalf(groups), toPre)
}

// preOrder writes the outboard of so many groups, which post holds in post-order, in pre-order.
func preOrder(w io.Writer, post io.ReaderAt, groups uint64) error {
	out := bufio.NewWriterSize(w, flipGroups*PairSize)
	room := make([]byte, 2*PairSize*(min(groups, flipGroups)-1)+PairSize)
	if err := preOrderAt(out, post, 0, groups, room); err != nil {
		return err
	}
	return out.Flush()
}

func preOrderAt(w io.Writer, post io.ReaderAt, first, groups uint64, room []byte) error {
	if groups <= 1 {
		return nil
	}
	if groups <= flipGroups {
		n := (groups - 1) * PairSize
		src, dst := room[:n], room[n:2*n]
		if err := readAt(post, src, first*PairSize); err != nil {
			return fmt.Errorf("read back the outboard: %w", err)
		}
		flip(dst, src, groups, true)
		_, err := w.Write(dst)
		return err
	}
	pair := room[:PairSize]
	if err := readAt(post, pair, (first+groups-2)*PairSize); err != nil {
		return fmt.Errorf("read back the outboard: %w", err)
	}
	if _, err := w.Write(pair); err != nil {
		return err
	}
	left := leftHalf(groups)
	if err := preOrderAt(w, post, first, left, room); err != nil {
		return err
	}
	return preOrderAt(w, post, first+left-1, groups-left, room)
}
