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
