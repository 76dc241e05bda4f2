package lsr

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestFaultHarmsNoOther has a caller whose logits lie partly in a guard page, as those of a mapped file that was cut off do.
// It asked for a panic on faults and recovers; the others get their bits. This is the only panic that data can cause.
func TestFaultHarmsNoOther(t *testing.T) {
	g := generator(52)
	c := criterion(t, Smoothing(.1), IgnoreIndex(-100), Workers(1)) // a fault on a goroutine of the package's own is the program's end
	const classes, rows = 1000, 8
	f := newFence(t, 4*classes*(rows-1))
	row := viewAs[float32](f.place(4*classes*(rows-1), atEnd))
	cut := Rows(unsafe.Slice(&row[0], classes*rows), classes) // the last row lies beyond
	tasks := append(tasksOf[float32](&g, c), task{"fault", func() uint64 {
		var err error
		if fault(func() { _, err = Forward(c, cut, make([]int, rows)) }) == nil || err != nil {
			return uint64(time.Now().UnixNano()) // not the same twice: the soak sees it
		}
		return 1
	}})
	calls, err := soak(soakFor(t)/4, 64, tasks)
	require.NoError(t, err)
	t.Logf("%d calls", calls)
}
