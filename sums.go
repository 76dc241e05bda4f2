package lsr

import (
	"math"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// The sums of rows whose lanes are classes.

// sumShort finds the sums of rows that have one pivot each.
func (w *worker[T, F]) sumShort(j *job[T], labels []int32) {
	all, step := w.view, max(1, coef.Near/(w.n*int(unsafe.Sizeof(*new(T))))) // rows that stay in the nearest cache
	// All maxima but the first are found beside sums, unless a row has something done between, or is missing.
	beside := step >= ahead && !j.c.top1 && len(w.masked) == 0 && j.ignored == 0
	switch {
	case beside:
		step = all.rows
	case len(w.masked) != 0:
		step = 1
	}
	for r := 0; r < all.rows; r += step {
		f := w.part(r, min(step, all.rows-r), 0, all.n)
		rows := w.rows
		if w.ahead = 0; beside {
			w.rows = min(rows, ahead)
			w.ahead = rows - w.rows
		}
		w.run(opMax, 0)
		if j.c.top1 {
			for i, y := range labels[r : r+w.rows] {
				if y >= 0 {
					w.stayOnTop(i, 0, math.Inf(-1))
				}
			}
		}
		w.rows = rows
		w.run(opSum, f)
		w.view = all
	}
	lo, hi := w.first, w.first+w.rows
	w.fold(w.rest[lo:hi], w.lanesE, w.rowBlocks, -1)
	if w.n == 2 { // the other of the two exponentials is 1
		for r := range w.rows {
			e := (*[2]F)(unsafe.Add(w.lanesE, r*coef.Lanes))
			w.rest[w.first+r] = float64(min(e[0], e[1]))
		}
	}
	if j.index && j.c.smoothing == 0 {
		clear(w.d[:]) // 0·(−Inf) counts as 0
	} else {
		w.fold(w.d[lo:hi], w.lanesD, w.rowBlocks, 0)
	}
	if !j.index {
		w.fold(w.main[lo:hi], w.lanesA, w.rowBlocks, 0)
		clear(w.y[lo:hi])
	}
}

// fold adds up the lanes of len(sums) rows of so many blocks, and the bias.
func (w *worker[T, F]) fold(sums []float64, lanes unsafe.Pointer, blocks int, bias float64) {
	w.args.lanes, w.sums, w.folds, w.blocks, w.bias = lanes, base(sums), len(sums), blocks, bias
	w.run(opFold, 0)
}

// dead is the pivot of segments before the first logit above −Inf: their differences are −Inf, not NaN.
const dead = -math.MaxFloat32

// sumLong finds the sums of one row, each segment with the maximum up to its end as its pivot.
func (w *worker[T, F]) sumLong(j *job[T], y int32) {
	if y < 0 {
		return
	}
	label, x := w.labels, widen[T](w.x, int(y)*w.step) // before it is overwritten
	w.labels = unsafe.Pointer(&w.none)                 // the target may be in another segment
	all, s, top := w.view, w.first, math.Inf(-1)
	w.ahead = 0
	for g := range w.scales {
		k := g * coef.Segment
		f := w.part(0, 1, k, min(coef.Segment, all.n-k))
		w.run(opMax, 0)
		if j.c.top1 {
			w.stayOnTop(0, k, top)
		}
		if m := w.pivot[s]; m > top { // not a NaN
			top = m
		}
		if w.scales[g] = top; math.IsInf(top, -1) {
			w.scales[g] = dead
		}
		w.pivot[s] = w.scales[g]
		w.run(opSum, f)
		w.view = all
	}
	w.labels, w.pivot[s] = label, top

	blocks := w.rowBlocks
	e, d, a := w.folded[:blocks], w.folded[blocks:2*blocks], w.folded[2*blocks:3*blocks]
	w.fold(e, w.lanesE, 1, 0)
	w.fold(d, w.lanesD, 1, 0)
	if w.form != uniform {
		w.fold(a, w.lanesA, 1, 0)
	}
	var sumE, sumD, sumA twofold
	perSegment := coef.Segment / blockOf[F]()
	for g, pivot := range w.scales {
		w.scales[g] = 0
		lo, hi := g*perSegment, min((g+1)*perSegment, blocks)
		mass := float64(min(coef.Segment, all.n-g*coef.Segment))
		if w.form != uniform {
			mass = 0
			for _, v := range a[lo:hi] {
				mass += v
			}
			sumA.add(mass)
		}
		if pivot != dead {
			w.scales[g] = exp64(pivot - top)
			sumD.add(float64(mass * (pivot - top)))
		}
		for b := lo; b < hi; b++ {
			sumE.add(float64(e[b] * w.scales[g]))
			sumD.add(d[b])
		}
	}
	w.rest[s], w.d[s] = sumE.plus(-1), sumD.plus(0)
	if math.IsInf(top, -1) {
		w.rest[s] = math.NaN()
	}
	if j.index && j.c.smoothing == 0 {
		w.d[s] = 0
	}
	w.y[s] = x - top
	if !j.index {
		w.main[s], w.y[s] = sumA.plus(0), 0
	}
}

// stayOnTop sees whether the target of row r can still be the first largest logit, once the maximum of the view's classes,
// from class k on, and of those before are known.
func (w *worker[T, F]) stayOnTop(r, k int, before float64) {
	s := w.first + r
	y, x := int(w.top[s]), w.topLogit[s]
	row := unsafe.Add(w.x, r*w.xStride)
	if math.IsInf(x, 0) { // the row's sums won't tell whether there is a NaN
		for i := range w.n {
			if v := widen[T](row, i*w.step); v != v {
				w.top[s] = -1
				return
			}
		}
	}
	switch m := w.pivot[s]; {
	case y < k:
		if m > x {
			w.top[s] = -1
		}
	case y < k+w.n:
		if x != m || k > 0 && x <= before {
			w.top[s] = -1
			return
		}
		for i := range y - k {
			if widen[T](row, i*w.step) == m {
				w.top[s] = -1
				return
			}
		}
	}
}
