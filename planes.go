package lsr

import (
	"math"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// The kernels for planes have a vector of rows in their lanes. They serve a class axis that is not last, and, by way of a
// transposed copy, few classes of rows.

// A shape says what the lanes of the kernels are, and so which kernels a job takes.
type shape int

const (
	lanesOfClasses shape = iota // rows one by one
	planes                      // rows in the lanes, as they lie
	widened                     // rows in the lanes, from a copy in float32
	tiles                       // rows in the lanes, from a transposed copy
)

// planeBytes is what a chunk's rows take in a plane of a copy.
const planeBytes = maxSlots * 8

// tileClasses is up to how many classes tiles are faster than rows, by instruction set and kind of element (measured).
var tileClasses = [...][4]int{avx2: {48, 26, 48, 48}, avx512: {60, 30, 60, 60}}

// shapeOf chooses a shape.
func (w *worker[T, F]) shapeOf(j *job[T]) shape {
	classes, sameSize := j.logits.Classes, unsafe.Sizeof(*new(T)) == unsafe.Sizeof(F(0))
	switch {
	case w.isa == plainGo || len(w.masked) != 0 || classes > blockOf[F]():
		return lanesOfClasses
	case j.logits.Inner > 1 && j.c.top1 && j.grads(): // a gradient in place would leave no logits to look at
		return lanesOfClasses
	case j.logits.Inner > 1 && sameSize:
		return planes
	case j.logits.Inner > 1:
		return widened
	case classes > 1 && (classes <= tileClasses[w.isa][kind[T]()] || w.specialPlanes != nil):
		return tiles
	}
	return lanesOfClasses
}

// vectorRows is the number of rows that the kernels for planes take at a time, at most.
func vectorRows[F real]() int { return coef.Lanes / int(unsafe.Sizeof(F(0))) }

// fits narrows a chunk to a number of rows that the kernels for planes can take, or says that they can't.
func (w *worker[T, F]) fits(rows int) (int, bool) {
	switch n := vectorRows[F](); w.shape {
	case planes, widened:
		if rows < n {
			return rows, false
		}
		return rows &^ (n - 1), true
	case tiles:
		return rows, rows >= 8
	}
	return rows, false
}

// copyPlane copies rows, or planes of a half type, to a plane buffer.
func (w *worker[T, F]) copyPlane(buffer []F, from unsafe.Pointer, stride int) {
	x, xStride := w.x, w.xStride
	w.plane, w.x, w.xStride = base(buffer), from, stride
	if w.shape == tiles {
		w.run(opTranspose, 0)
	} else {
		w.run(opWiden, 0)
	}
	w.x, w.xStride = x, xStride
}

// sumPlanes finds the sums of a chunk's rows, and what the logits of the targets' classes are needed for.
func (w *worker[T, F]) sumPlanes(j *job[T], labels []int32) {
	caller, rows := w.view, w.rows
	sizeT, sizeF := int(unsafe.Sizeof(*new(T))), int(unsafe.Sizeof(F(0)))
	w.xStep, w.dstStep, w.eBytes = w.step*sizeT, w.step*sizeT, w.step*sizeF
	if w.shape != planes {
		w.planeStep = maxSlots * sizeF
		w.copyPlane(w.planeX, w.x, w.xStride)
		if w.form == dense {
			w.copyPlane(w.planeT, w.t, w.tStride)
			w.t = base(w.planeT)
		}
		w.x, w.e = base(w.planeX), base(w.planeX)
		w.xStep, w.eBytes = w.planeStep, w.planeStep
	} else if !j.grads() {
		w.e, w.eBytes = base(w.planeX), 0 // all classes share a place that nobody reads
	}
	n := len(w.planeLanes) / 3
	w.lanesE, w.lanesD, w.lanesA = base(w.planeLanes), base(w.planeLanes[n:]), base(w.planeLanes[2*n:])
	w.xHop, w.eHop = w.xStep*vectorRows[F](), w.eBytes*vectorRows[F]()
	w.rows = (rows + vectorRows[F]() - 1) &^ (vectorRows[F]() - 1)
	if w.form == uniform && !j.grads() {
		w.run(opPlaneSum, w.form)
	} else {
		w.run(opPlaneSumExp, w.form)
	}
	e := w.e
	w.view = caller
	w.e = e
	if j.c.top1 {
		for r, y := range labels {
			if y >= 0 {
				w.stayOnTop(r, 0, math.Inf(-1))
			}
		}
	}
	if j.index && j.c.smoothing == 0 {
		clear(w.d[:]) // 0·(−Inf) counts as 0
	}
}

// gradientPlanes turns the exponentials that sumPlanes has left into gradients.
func (w *worker[T, F]) gradientPlanes() {
	caller, rows := w.view, w.rows
	w.rows = (rows + vectorRows[F]() - 1) &^ (vectorRows[F]() - 1)
	if w.shape == planes {
		w.run(opPlaneScale, w.form)
		return
	}
	w.dst, w.dstStep = w.e, w.planeStep
	if w.form == dense {
		w.t = base(w.planeT)
	}
	w.run(opPlaneScale, w.form)
	w.view, w.plane = caller, w.e
	if w.shape == tiles {
		w.run(opTransposeBack, 0)
		return
	}
	w.dstStep = w.step * int(unsafe.Sizeof(*new(T)))
	w.run(opNarrow, 0)
}
