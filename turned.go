package lsr

import "unsafe"

// Where the class axis is not last, and the kernels for planes do not take the classes, which are too many or may be masked,
// positions are turned into rows, a vector of them at a time, for the kernels for rows. Their gradients are turned back.

// turning is a worker's memory for that.
type turning[T Element, F real] struct {
	on         bool
	start, end int // the rows that are turned
	x, t       []T // their logits, then gradients, and their distribution targets; classes side by side
	planes     []F // on the way there: elements of the half types, widened
}

// turnClasses is how many classes are turned at a time: their cache lines may lie all in one set of the caches.
const turnClasses = 32

// turns says whether a job's positions are turned into rows. Kernels that do that write planes of four classes at a time.
func (w *worker[T, F]) turns(j *job[T]) bool {
	return w.isa != plainGo && j.logits.Inner > 1 && w.shape == lanesOfClasses && j.logits.Classes >= max(4, w.least)
}

// prepareTurning makes room.
func (w *worker[T, F]) prepareTurning(j *job[T]) {
	n, classes := vectorRows[F](), j.logits.Classes
	w.turned.start, w.turned.end = 0, 0
	w.turned.x, w.turned.planes = grow(w.turned.x, n*classes), grow(w.turned.planes, n*turnClasses)
	if !j.index {
		w.turned.t = grow(w.turned.t, n*classes)
	}
}

// rowOf is where row i is, and the distance to the next, of a batch or of what it has been turned into.
func (w *worker[T, F]) rowOf(b *Batch[T], turned []T, i int) (unsafe.Pointer, int) {
	if !w.turned.on {
		return b.rowAt(i, w.position), b.rowBytes()
	}
	bytes := b.Classes * sizeOf[T]()
	return unsafe.Add(base(turned), (i-w.turned.start)*bytes), bytes
}

// turn turns positions from row i on into rows, up to a vector of them and no more than there are before row end.
func (w *worker[T, F]) turn(j *job[T], i, end int) {
	w.turned.start, w.turned.end = i, i+min(vectorRows[F](), end-i, j.logits.Inner-w.position)
	w.turnBatch(&j.logits, w.turned.x, false)
	if !j.index {
		w.turnBatch(&j.targets, w.turned.t, false)
	}
}

// turnBatch turns a batch's positions into rows, or back.
func (w *worker[T, F]) turnBatch(b *Batch[T], rows []T, back bool) {
	caller, p, n := w.view, b.row(w.turned.start), w.turned.end-w.turned.start
	sizeT, sizeF := sizeOf[T](), sizeOf[F]()
	if n < vectorRows[F]() {
		for k := range b.Classes {
			for r := range n {
				if outside, inside := at[T](p, k*b.Inner+r), &rows[r*b.Classes+k]; back {
					*outside = *inside
				} else {
					*inside = *outside
				}
			}
		}
		return
	}
	w.rows, w.xStep, w.dstStep = n, b.Inner*sizeT, b.Inner*sizeT
	w.xStride, w.dstStride = b.Classes*sizeT, b.Classes*sizeT
	w.n = min(turnClasses, b.Classes)
	for next := 0; next < b.Classes; next += w.n {
		k := min(next, b.Classes-w.n) // the last classes overlap those before
		outside, inside := unsafe.Add(p, k*w.xStep), unsafe.Pointer(&rows[k])
		w.plane, w.planeStep = outside, w.xStep
		if sizeT != sizeF {
			w.plane, w.planeStep = base(w.turned.planes), n*sizeF
		}
		if back {
			w.x = inside
			w.run(opTranspose, 0)
			w.dst = outside
			if sizeT != sizeF {
				w.run(opNarrow, 0)
			}
			continue
		}
		w.x = outside
		if sizeT != sizeF {
			w.run(opWiden, 0)
		}
		w.dst = inside
		w.run(opTransposeBack, 0)
	}
	w.view = caller
}
