package lsr

import (
	"math"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// The sums of rows whose lanes are classes.

// sumShort finds the sums of rows that have one pivot each.
func (w *worker[T, F]) sumShort(j *job[T], labels []int32) {
	all, step := w.view, max(1, coef.NearBytes/(w.n*sizeOf[T]())) // rows that stay in the nearest cache
	// All maxima but the first are found beside sums, unless a row has something done between, or is missing.
	beside := step >= coef.RowsAhead && !j.c.top1 && len(w.masked) == 0 && j.ignored == 0
	if beside {
		step = all.rows
	}
	for r := 0; r < all.rows; {
		f := w.part(r, w.alike(r, min(step, all.rows-r)), 0, all.n)
		w.maxima(beside)
		if j.c.top1 {
			w.stayAllOnTop(labels[r : r+w.rows])
		}
		w.run(opSum, f)
		r += w.rows
		w.view = all
	}
	lo, hi := w.first, w.first+w.rows
	w.fold(of[F](&w.rest)[lo:hi], w.lanesE, w.rowBlocks, -1)
	if w.n == 2 { // the other of the two exponentials is 1
		for r := range w.rows {
			e := (*[2]F)(unsafe.Add(w.lanesE, r*coef.LaneBytes))
			of[F](&w.rest)[w.first+r] = e[0] * e[1]
		}
	}
	if j.index && j.c.smoothing == 0 {
		clear(w.d[:]) // 0·(−Inf) counts as 0
	} else {
		w.fold(of[F](&w.d)[lo:hi], w.lanesD, w.rowBlocks, 0)
	}
	if !j.index {
		w.fold(of[F](&w.sumA)[lo:hi], w.lanesA, w.rowBlocks, 0)
	}
}

// fold adds up the lanes of len(sums) rows of so many blocks, and the bias.
func (w *worker[T, F]) fold(sums []F, lanes unsafe.Pointer, blocks int, bias float64) {
	w.args.lanes, w.sums, w.folds, w.blocks, w.bias = lanes, base(sums), len(sums), blocks, bias
	w.run(opFold, 0)
}

// maxima finds those of the view's rows, or beside sums only the first, which then find the others.
func (w *worker[T, F]) maxima(beside bool) {
	rows := w.rows
	if w.ahead = 0; beside {
		w.rows = min(rows, coef.RowsAhead)
		w.ahead = rows - w.rows
	}
	w.run(opMax, 0)
	w.rows = rows
}

// maximum is that of the row in a slot.
func (w *worker[T, F]) maximum(s int) float64 { return -float64(of[F](&w.minus)[s]) }

// lowest is the maximum of a segment with no logit above −Inf: its differences are −Inf, not NaN.
func lowest[F real]() F {
	least := -math.MaxFloat32
	if isFloat64[F]() {
		least = -math.MaxFloat64
	}
	return F(least)
}

// sumLong finds the sums of one row, in segments with a maximum for each.
func (w *worker[T, F]) sumLong(j *job[T], y int32) {
	if y < 0 {
		return
	}
	x := widen[T](w.x, int(y)*w.step) // before it is overwritten
	all, s, top, before := w.view, w.first, math.Inf(-1), math.Inf(-1)
	many := w.form == uniform && !j.c.top1 && len(w.masked) == 0
	var f form // of the row, which may be masked
	for i := 0; i < len(w.scales); {
		f = w.segments(i, many)
		if j.c.top1 { // −Inf is below the lowest
			*lowestOf[F](&w.args) = F(math.Inf(-1))
		}
		w.maxima(many)
		if j.c.top1 {
			w.stayOnTop(0, i*coef.Segment, before)
			before = max(before, w.maximum(s))
			*lowestOf[F](&w.args) = lowest[F]()
			of[F](&w.minus)[s] = -max(lowest[F](), F(w.maximum(s)))
		}
		w.run(opSum, f)
		for r := range w.rows {
			m := w.maximum(w.first + r)
			if w.scales[i+r] = m; m > top { // not a NaN
				top = m
			}
		}
		i += w.rows
		w.view = all
	}
	w.foldSegments(f)
	n := roundUp(len(w.scales), foldRows)
	e, d, a := w.folded, w.folded[n:], w.folded[2*n:]
	var sumE, sumD, sumA twofold
	for i, m := range w.scales {
		mass := float64(min(coef.Segment, all.n-i*coef.Segment))
		if f != uniform {
			mass = float64(a[i])
			sumA.add(mass)
		}
		if e[i] != 0 { // there is a logit above −Inf
			sumD.add(float64(mass * (m - top)))
		}
		sumD.add(float64(d[i]))
	}
	w.rescale(s, top)
	for i, scale := range w.scales {
		sumE.add(float64(float64(e[i]) * scale))
	}
	rest, sum := sumE.plus(-1), sumD.plus(0)
	if sumE.hi == 0 {
		rest = math.NaN()
	}
	if j.index && j.c.smoothing == 0 {
		sum = 0
	}
	of[F](&w.minus)[s], of[F](&w.rest)[s], of[F](&w.target)[s] = -F(top), F(rest), F(x)
	of[F](&w.d)[s], of[F](&w.sumA)[s] = F(sum), F(sumA.plus(0))
}

// foldSegments adds up the lanes of a long row's segments: all that there may be, of each of the sums.
func (w *worker[T, F]) foldSegments(f form) {
	sums := []unsafe.Pointer{w.lanesE, w.lanesD, w.lanesA} // side by side
	if f == uniform {
		sums = sums[:2]
	}
	whole, rest := w.n/coef.Segment, (w.n%coef.Segment+blockOf[F]()-1)/blockOf[F]()
	if rest > 0 { // the last segment has fewer blocks
		for _, lanes := range sums {
			clear(unsafe.Slice(at[[coef.LaneBytes]byte](lanes, whole*w.rowBlocks+rest), w.rowBlocks-rest))
		}
	}
	w.fold(w.folded[:len(sums)*roundUp(len(w.scales), foldRows)], w.lanesE, w.rowBlocks, 0)
}

// rescale turns the maxima m in scales into exp(m − top).
func (w *worker[T, F]) rescale(s int, top float64) {
	if w.isa == plainGo {
		for i, m := range w.scales {
			w.scales[i] = exp64(m - top)
		}
		return
	}
	all := w.view // the maxima are a row of float64
	w.x, w.e, w.rows, w.n, w.labels = base(w.scales), base(w.scales), 1, len(w.scales), unsafe.Pointer(&w.none)
	*at[float64](unsafe.Pointer(&w.minus), s) = -top
	w.ahead = 0
	call(w.isa, float64Kind, opSumExp, &w.args)
	w.view = all
}

// stayAllOnTop sees which of the view's targets are the first largest logit.
func (w *worker[T, F]) stayAllOnTop(labels []int32) {
	for r, y := range labels {
		if y >= 0 {
			w.stayOnTop(r, 0, math.Inf(-1))
		}
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
	switch m := w.maximum(s); {
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

// argmax is the first class with the largest value, or −1 if there is a NaN.
func argmax[T Element, F real](p unsafe.Pointer, classes, step int) int {
	best, at := F(math.Inf(-1)), 0
	var t group[F]
	for k := 0; k < classes; k += groupSize {
		n := min(groupSize, classes-k)
		load[T](&t, p, k, n, step)
		for i, t := range t[:n] {
			if t != t {
				return -1
			}
			if t > best {
				best, at = t, k+i
			}
		}
	}
	return at
}
