package lsr

import (
	"math"
	"unsafe"
)

// mask makes the coefficients of row r if some of its classes are masked: those of the others, over the sum of their prior.
func (w *worker[T, F]) mask(c *Criterion, r int, y int32, index bool) {
	s, row := w.first+r, unsafe.Add(w.x, r*w.xStride)
	u := w.uBuffer[r*w.n : (r+1)*w.n]
	w.masked[r] = false
	var present, sum twofold
	for k := range u {
		if u[k] = 1; math.IsInf(widen[T](row, k*w.step), -1) {
			u[k], w.masked[r] = 0, true
		} else {
			present.add(c.priorOf(k, w.n))
		}
	}
	if index {
		w.eu[s], w.uy[s] = c.smoothing*c.coefSum, c.smoothing*c.coefficient(int(y), w.n)
	}
	if !w.masked[r] {
		return
	}
	total := present.plus(0)
	if total == 0 { // all that the prior has is masked
		clear(u)
	}
	for k := range u {
		if u[k] != 0 {
			a := c.coefficient(k, w.n) / total
			sum.add(a)
			if index { // relative to what a sum is multiplied by
				a /= w.perCoef / c.smoothing
			} else {
				a *= c.smoothing
			}
			u[k] = F(a)
		}
	}
	if index {
		w.eu[s] = c.smoothing * sum.plus(0)
		w.uy[s] = w.perCoef * float64(u[y])
	}
}

// priorOf is u_k.
func (c *Criterion) priorOf(k, classes int) float64 {
	if c.prior != nil {
		return c.prior[k]
	}
	return 1 / float64(classes)
}

// coefficient is u_k·w_k.
func (c *Criterion) coefficient(k, classes int) float64 {
	if c.v64.coef != nil {
		return c.v64.coef[k]
	}
	return 1 / float64(classes)
}
