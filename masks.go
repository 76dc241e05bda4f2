package lsr

import (
	"math"
	"slices"
	"unsafe"
)

// masks says whether rows may have masked classes that matter: smoothing alone counts them.
func (c *Criterion) masks() bool { return c.mask && c.smoothing != 0 }

// maskRows finds a chunk's rows that have masked classes, and makes their coefficients. Tiles have one vector of them for all rows.
func (w *worker[T, F]) maskRows(j *job[T], labels []int32) {
	w.masked = w.masked[:len(labels)]
	// One look at all rows, if they lie together and none is ignored, whose logits are not to be read.
	together := j.ignored == 0 && w.step == 1 && w.xStride == w.n*sizeOf[T]()
	none := together && !hasNegInf[T, F](w.x, w.rows*w.n)
	for r, y := range labels {
		if y >= 0 && j.index {
			s := w.first + r
			if w.eu[s] = w.eu0; j.c.v64.coef == nil { // else it has its uy
				w.uy[s] = w.uy0
			}
		}
		w.masked[r] = y >= 0 && !none && w.mask(j.c, r, y, j.index)
	}
	if !slices.Contains(w.masked, true) {
		w.masked = w.masked[:0]
		return
	}
	w.shape = lanesOfClasses
}

// alike is how many rows from row r on have the same coefficients, at most so many: a row that has masked classes has its own.
func (w *worker[T, F]) alike(r, most int) int {
	if len(w.masked) == 0 {
		return most
	}
	if n := slices.Index(w.masked[r:r+most], true); n >= 0 {
		return max(1, n)
	}
	return most
}

// hasNegInf says whether one of the logits of rows that lie together is −Inf.
func hasNegInf[T Element, F real](rows unsafe.Pointer, logits int) bool {
	var x group[F]
	negInf := F(math.Inf(-1))
	for k := 0; k < logits; k += groupSize {
		n := min(groupSize, logits-k)
		load[T](&x, rows, k, n, 1)
		for _, x := range x[:n] {
			if x == negInf {
				return true
			}
		}
	}
	return false
}

// mask says whether some classes of row r are masked, and then makes the coefficients of the others, which are divided by the sum of
// their prior. Those for index targets are relative to perCoef, which their sums are multiplied by.
func (w *worker[T, F]) mask(c *Criterion, r int, y int32, index bool) bool {
	s, u := w.first+r, w.uBuffer[r*w.n:(r+1)*w.n]
	present := markPresent[T](u, unsafe.Add(w.x, r*w.xStride), w.step)
	if present == w.n {
		return false
	}
	eu := c.smoothing
	if c.v64.coef == nil {
		each := c.smoothing
		if index {
			each = float64(w.n)
		}
		a := F(each / float64(max(present, 1)))
		for k := range u {
			u[k] *= a
		}
	} else {
		eu *= renormalize(c, u, index)
	}
	if index {
		w.eu[s] = eu
		w.uy[s] = w.perCoef * float64(u[y])
	}
	return true
}

// markPresent sets the coefficients of classes to 1, of masked ones to 0, and returns how many there are of the former.
func markPresent[T Element, F real](u []F, row unsafe.Pointer, step int) (present int) {
	var x group[F]
	negInf := F(math.Inf(-1))
	for k := 0; k < len(u); k += groupSize {
		u := u[k:min(k+groupSize, len(u))]
		load[T](&x, row, k, len(u), step)
		for i := range u {
			if u[i] = 0; x[i] != negInf {
				u[i] = 1
				present++
			}
		}
	}
	return present
}

// renormalize replaces coefficients of 1 by those of the criterion, over the sum of their prior, and returns their sum.
func renormalize[F real](c *Criterion, u []F, index bool) float64 {
	var present, sum twofold
	for k := range u {
		if u[k] != 0 {
			present.add(c.priorOf(k, len(u)))
		}
	}
	total := present.plus(0)
	if total == 0 { // all that the prior has is masked
		clear(u)
	}
	for k := range u {
		if u[k] != 0 {
			a := c.v64.coef[k] / total
			sum.add(a)
			if !index {
				a *= c.smoothing
			}
			u[k] = F(a)
		}
	}
	return sum.plus(0)
}

// priorOf is u_k.
func (c *Criterion) priorOf(k, classes int) float64 {
	if c.prior != nil {
		return c.prior[k]
	}
	return 1 / float64(classes)
}
