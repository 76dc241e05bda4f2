package lsr

import (
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// The kernels for planes have a vector of rows in their lanes. They serve a class axis that is not last, up to a block of
// classes, none masked (turned.go has the others), and few classes of rows, both by way of a copy of a chunk: the classes of an image may all lie
// in one set of the caches, which are passed over three times, and rows have to be transposed.

// A shape says what the lanes of the kernels are, and so which kernels a job takes.
type shape int

const (
	lanesOfClasses shape = iota // rows one by one
	planes                      // rows in the lanes, from a copy
	tiles                       // rows in the lanes, from a transposed copy
)

// tileClasses is up to how many classes tiles are faster than rows, by instruction set and kind of element (measured).
var tileClasses = [...][kinds]int{avx2: {31, 15, 63, 63}, avx512: {43, 23, 62, 55}}

// tileRows is how many rows the kernels that transpose want.
var tileRows = [...][kinds]int{avx2: {8, 8, 8, 8}, avx512: {16, 8, 8, 8}}

// shapeOf chooses a shape.
func (w *worker[T, F]) shapeOf(j *job[T]) shape {
	classes := j.logits.Classes
	switch {
	case w.isa == plainGo || classes > blockOf[F]() || j.logits.Inner > 1 && j.c.masks():
		return lanesOfClasses
	case j.logits.Inner > 1:
		return planes
	case classes == 1:
		return lanesOfClasses
	case classes <= tileClasses[w.isa][kindOf[T]()]:
		return tiles
	}
	return lanesOfClasses
}

// rowsOfPlanes is the number of rows of a chunk: as many as there are slots if the copy takes no more than 10 KiB, since what a chunk
// costs beside its rows is most for few classes.
func (w *worker[T, F]) rowsOfPlanes(classes int) int {
	if maxSlots*classes*sizeOf[F]() <= 10<<10 {
		return maxSlots
	}
	return maxSlots / 2
}

// vectorRows is the number of rows that the kernels for planes take at a time, at most.
func vectorRows[F real]() int { return coef.LaneBytes / sizeOf[F]() }

// fits narrows a chunk to a number of rows that the kernels for planes take as well as they can, or says that they can't.
func (w *worker[T, F]) fits(rows int) (int, bool) {
	switch n := vectorRows[F](); w.shape {
	case planes:
		if rows > n {
			rows &^= n - 1
		}
		return rows, true
	case tiles:
		return rows, rows >= tileRows[w.isa][kindOf[T]()]
	}
	return rows, false
}

// whole reports whether the kernels that copy planes can copy the chunk's rows, which otherwise are fewer than a vector.
func (w *worker[T, F]) whole() bool { return w.rows%vectorRows[F]() == 0 }

// copyPlanes copies a chunk of logits or of targets to a plane buffer, and finds maxima, as if all were logits.
func (w *worker[T, F]) copyPlanes(buffer []F, from unsafe.Pointer, stride int) {
	x, xStride := w.x, w.xStride
	w.plane, w.x, w.xStride = base(buffer), from, stride
	switch {
	case w.shape == tiles:
		w.run(opTranspose, 0)
	case w.whole():
		w.run(opCopyPlanes, 0)
	default:
		for k := range w.n {
			load[T]((*group[F])(buffer[k*planeSlots:]), unsafe.Add(from, k*w.xStep), 0, w.rows, 1)
		}
		w.run(opMax, 0)
	}
	w.x, w.xStride = x, xStride
}

// sumPlanes finds the maxima and sums of a chunk's rows, and the logits of the targets' classes. It leaves the exponentials in planeX,
// which had the logits.
func (w *worker[T, F]) sumPlanes(j *job[T], labels []int32) {
	caller := w.view
	sizeT, sizeF := sizeOf[T](), sizeOf[F]()
	w.xStep, w.dstStep, w.planeStep = w.step*sizeT, w.step*sizeT, planeSlots*sizeF
	if w.form == dense {
		w.copyPlanes(w.planeT, w.t, w.tStride)
		w.t = base(w.planeT)
	}
	w.copyPlanes(w.planeX, w.x, w.xStride) // last, since maxima are to be those of logits
	w.next, w.beyond = int(uintptr(w.x))+w.rows*sizeT, 0
	switch {
	case w.shape == tiles: // rows have been prefetched as they were transposed: next is x
		w.next, w.xStep = int(uintptr(base(w.planeX))), w.planeStep
	case j.grads() && !w.nonTemporal:
		w.beyond = int(uintptr(w.dst)) - w.next
	}
	w.x = base(w.planeX)
	w.lanesE = base(w.planeLanes)
	w.rows = roundUp(w.rows, vectorRows[F]())
	w.run(opPlaneSumExp, w.form)
	w.view = caller
	if w.n == 2 { // the other of the two exponentials is 1
		e, other, rest := w.planeX[:w.rows], w.planeX[planeSlots:planeSlots+w.rows], of[F](&w.rest)[w.first:w.first+w.rows]
		for r := range rest {
			rest[r] = e[r] * other[r]
		}
	}
	if j.c.top1 {
		w.stayAllOnTop(labels)
	}
	if j.index && j.c.smoothing == 0 {
		clear(w.d[:]) // 0·(−Inf) counts as 0
	}
}

// gradientPlanes turns the exponentials that sumPlanes has left into gradients: at once in the caller's memory, where that has
// planes of F, or in planeX, to be copied.
func (w *worker[T, F]) gradientPlanes(j *job[T]) {
	if w.shape == tiles && w.form == uniform && kindOf[T]() == float32Kind { // at once to rows
		w.plane = base(w.planeX)
		w.run(opTileScale, 0)
		return
	}
	caller, dstStep := w.view, w.dstStep
	direct := w.shape == planes && w.whole() && !w.nonTemporal && !isHalf[T]()
	if !direct {
		w.dst, w.dstStep = base(w.planeX), w.planeStep
	}
	w.e, w.t = base(w.planeX), nil
	if w.form == dense {
		w.t = base(w.planeT)
	}
	w.rows = roundUp(w.rows, vectorRows[F]())
	w.run(opPlaneScale, w.form)
	w.view, w.dstStep, w.plane = caller, dstStep, base(w.planeX)
	switch {
	case direct:
	case w.nonTemporal:
		if j.ignored != 0 {
			w.zeroPlanes()
		}
		w.storePlanes()
	case w.shape == tiles:
		w.run(opTransposeBack, 0)
	case w.whole():
		w.run(opNarrow, 0)
	default:
		for k := range w.n {
			store[T](unsafe.Add(w.dst, k*w.dstStep), 0, w.rows, 1, (*group[F])(w.planeX[k*planeSlots:]))
		}
	}
}
