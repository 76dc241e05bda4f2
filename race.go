//go:build race

package lsr

import (
	"runtime"
	"unsafe"
)

// raceEnabled reports whether the program is built with -race. The race detector does not see what assembly does: it has
// to be told.
const raceEnabled = true

// raceRead tells the race detector that n bytes are read.
func raceRead(p unsafe.Pointer, n int) { runtime.RaceReadRange(p, n) }

// raceWrite tells the race detector that n bytes are written.
func raceWrite(p unsafe.Pointer, n int) { runtime.RaceWriteRange(p, n) }

// race tells the race detector what the kernels read and write: the rows, and nothing between them. The logits of ignored
// rows count as not read.
func (j *job[T]) race() {
	size := sizeOf[T]()
	rows := func(b *Batch[T], ignored bool, touch func(unsafe.Pointer, int)) {
		for i := range j.rows {
			if !ignored && j.index && j.labels[i] < 0 {
				continue
			}
			if b.Inner == 1 {
				touch(b.row(i), b.Classes*size)
				continue
			}
			for k := range b.Classes {
				touch(unsafe.Add(b.row(i), k*b.Inner*size), size)
			}
		}
	}
	rows(&j.logits, false, raceRead)
	if !j.index {
		rows(&j.targets, true, raceRead)
	}
	if j.dst.Data != nil {
		rows(&j.dst, true, raceWrite)
	}
}
