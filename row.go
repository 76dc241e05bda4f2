package lsr

import (
	"math"
	"unsafe"
)

// row is one row's logits and, if targets are distributions, its target: K elements step apart.
type row struct {
	x, t    unsafe.Pointer
	classes int
	step    int // elements from one class to the next: 1, or the inner positions
}

// sums is what the passes over a row's logits x find, m being the pivot that they subtract.
type sums struct {
	pivot float64 // m
	rest  float64 // Σ e^(x_k−m), less 1
	ey    float64 // e^(x_y−m) (index targets)
	y     float64 // x_y−m (index targets)
	t, dt float64 // Σ t_k·w_k and Σ t_k·w_k·(x_k−m) (distribution targets)
	u, du float64 // Σ u_k·w_k and Σ u_k·w_k·(x_k−m), if there is smoothing
	prior float64 // Σ u_k
	mask  bool    // masked classes were found, and left out
}

// vectors are a criterion's vectors in the type that rows are computed in; nil stands for a constant.
type vectors[F real] struct {
	u []F // prior × weights; nil: 1/K
	w []F // weights, for distribution targets; nil: 1
}

// scratch is a worker's memory.
type scratch[F real] struct {
	e []F // exponentials of a row, in whole groups
	x group[F]
	a group[F]
	g group[F]
}

// at is the address of element i of an array.
func at[T any](p unsafe.Pointer, i int) *T {
	var t T
	return (*T)(unsafe.Add(p, i*int(unsafe.Sizeof(t))))
}

// load widens n elements of an array, from element k on, to a group.
func load[T Element, F real](g *group[F], p unsafe.Pointer, k, n, step int) {
	switch g := any(g).(type) {
	case *group[float64]:
		for i := range g[:n] {
			g[i] = *at[float64](p, (k+i)*step)
		}
	case *group[float32]:
		switch any(*new(T)).(type) {
		case float32:
			if step == 1 {
				copy(g[:n], unsafe.Slice(at[float32](p, k), n))
				break
			}
			for i := range g[:n] {
				g[i] = *at[float32](p, (k+i)*step)
			}
		case Float16:
			for i := range g[:n] {
				g[i] = at[Float16](p, (k+i)*step).Float32()
			}
		case BFloat16:
			for i := range g[:n] {
				g[i] = at[BFloat16](p, (k+i)*step).Float32()
			}
		}
	}
}

// store rounds n elements of a group to an array, from element k on.
func store[T Element, F real](p unsafe.Pointer, k, n, step int, g *group[F]) {
	switch g := any(g).(type) {
	case *group[float64]:
		for i, v := range g[:n] {
			*at[float64](p, (k+i)*step) = v
		}
	case *group[float32]:
		switch any(*new(T)).(type) {
		case float32:
			if step == 1 {
				copy(unsafe.Slice(at[float32](p, k), n), g[:n])
				break
			}
			for i, v := range g[:n] {
				*at[float32](p, (k+i)*step) = v
			}
		case Float16:
			for i, v := range g[:n] {
				*at[Float16](p, (k+i)*step) = ToFloat16(v)
			}
		case BFloat16:
			for i, v := range g[:n] {
				*at[BFloat16](p, (k+i)*step) = ToBFloat16(v)
			}
		}
	}
}

// one is element k of an array.
func one[T Element, F real](p unsafe.Pointer, k int) F {
	switch v := any(*at[T](p, k)).(type) {
	case float32:
		return F(v)
	case float64:
		return F(v)
	case Float16:
		return F(v.Float32())
	case BFloat16:
		return F(v.Float32())
	}
	panic("unreachable")
}

// fromGuess passes over a row with index target y, m being the largest of x_y and the first group's logits: the maximum of a
// short row, near it or the target of a confident one for most of the others. It reports whether every difference was in the
// window of exp; if not, the sums mean nothing. The exponentials are left in scr.e.
func fromGuess[T Element, F real](s *sums, r *row, y int, c *Criterion, v *vectors[F], scr *scratch[F]) bool {
	var se, sd sum[F]
	var out uint64
	target := one[T, F](r.x, y*r.step)
	m := target
	for k := 0; k < r.classes; k += groupSize {
		n := min(groupSize, r.classes-k)
		x, e := &scr.x, (*group[F])(scr.e[k:])
		load[T](x, r.x, k, n, r.step)
		if k == 0 {
			for _, x := range x[:n] {
				m = max(m, x)
			}
		}
		out |= expGroup(e, x, n, m)
		se.add(e, n)
		if c.smoothing != 0 {
			if v.u != nil {
				for i, u := range v.u[k : k+n] {
					x[i] = F(u * x[i])
				}
			}
			sd.add(x, n)
		}
		if k%blockSize == blockSize-groupSize {
			se.fold()
			sd.fold()
		}
	}
	se.fold()
	sd.fold()
	*s = sums{pivot: float64(m), rest: se.totalLess(1), prior: 1, u: c.coefs, du: sd.totalLess(0)}
	s.y, s.ey = float64(target)-s.pivot, float64(scr.e[y])
	if v.u == nil {
		s.du /= float64(r.classes)
	}
	if r.classes == 2 {
		s.rest = float64(min(scr.e[0], scr.e[1])) // the other is 1
	}
	return out < window
}

// fromMaximum passes over a row, m = max x. y is −1 with a distribution target. The exponentials are left in scr.e.
func fromMaximum[T Element, F real](r *row, y int, c *Criterion, v *vectors[F], scr *scratch[F]) sums {
	m := F(math.Inf(-1))
	masked := false
	for k := 0; k < r.classes; k += groupSize {
		n := min(groupSize, r.classes-k)
		load[T](&scr.x, r.x, k, n, r.step)
		for _, x := range scr.x[:n] {
			m = max(m, x) // NaN if one is
			masked = masked || isNegInf(x)
		}
	}
	s := sums{pivot: float64(m), prior: 1, mask: c.mask && masked}
	if s.mask {
		s.prior = 0
	}
	var se, sd, su, st, sdt sum[F]
	for k := 0; k < r.classes; k += groupSize {
		n := min(groupSize, r.classes-k)
		x, a, e := &scr.x, &scr.a, (*group[F])(scr.e[k:])
		load[T](x, r.x, k, n, r.step)
		expGroup(e, x, n, m)
		zeroBelow(e, x, n)
		se.add(e, n)
		if y >= k && y < k+n {
			s.ey = float64(e[y-k])
		}
		if r.t != nil {
			load[T](a, r.t, k, n, r.step)
			if v.w != nil {
				for i, w := range v.w[k : k+n] {
					a[i] *= w
				}
			}
			st.add(a, n)
			timesUnlessZero(a, x, n)
			sdt.add(a, n)
		}
		if c.smoothing != 0 {
			for i := range a[:n] {
				a[i] = 1
				if v.u != nil {
					a[i] = v.u[k+i]
				}
				if s.mask {
					if isNegInf(x[i]) {
						a[i] = 0
					} else {
						s.prior += c.priorOf(k+i, r.classes)
					}
				}
			}
			if s.mask {
				su.add(a, n)
			}
			timesUnlessZero(a, x, n)
			sd.add(a, n)
		}
		if k%blockSize == blockSize-groupSize {
			for _, s := range [...]*sum[F]{&se, &sd, &su, &st, &sdt} {
				s.fold()
			}
		}
	}
	for _, s := range [...]*sum[F]{&se, &sd, &su, &st, &sdt} {
		s.fold()
	}
	if y >= 0 {
		s.y = float64(one[T, F](r.x, y*r.step)) - s.pivot // wider than the difference in F
	}
	s.rest = se.totalLess(1)
	s.t, s.dt, s.u, s.du = st.totalLess(0), sdt.totalLess(0), su.totalLess(0), sd.totalLess(0)
	if v.u == nil {
		s.du /= float64(r.classes)
		s.u /= float64(r.classes)
	}
	if !s.mask {
		s.u = c.coefs
	}
	if r.classes == 2 {
		// One of the two is 1. Where both are NaN, so is this.
		s.rest = float64(min(scr.e[0], scr.e[1]))
	}
	return s
}

func isNegInf[F real](x F) bool { return math.IsInf(float64(x), -1) }

// timesUnlessZero multiplies a by x, where 0·(−Inf) counts as 0.
func timesUnlessZero[F real](a, x *group[F], n int) {
	for i := range a[:n] {
		if a[i] != 0 {
			a[i] *= x[i]
		}
	}
}

// priorOf is u_k.
func (c *Criterion) priorOf(k, classes int) float64 {
	if c.prior != nil {
		return c.prior[k]
	}
	return 1 / float64(classes)
}

// finished is what a row's sums come to.
type finished struct {
	loss float64 // without z-loss
	z    float64 // λ·L²
	nll  float64 // L − x_y
	lse  float64 // L
	main float64 // what multiplies −log p of the target: (1−ε)·w_y, or (1−ε)·Σ t_k·w_k
	eps  float64 // ε, over the prior that is not masked
	// The gradient of class j: e_j·f − smooth·u_j·w_j − target·t_j·w_j, and y at the index target.
	f, smooth, target, y float64
}

// finish computes a row's loss from its sums, by the formulas of doc.go. weight is w_y (index targets).
func (c *Criterion) finish(s *sums, distribution bool, weight float64) (r finished) {
	log := log1p(s.rest)
	r.lse = s.pivot + log
	eps := c.smoothing
	if s.mask {
		if s.prior > 0 {
			eps /= s.prior
		} else { // no smoothing, or no class left to spread it over
			eps = 0
		}
	}
	main := (1 - c.smoothing) * weight // of the target's −log p
	r.nll = log - s.y
	if main != 0 {
		r.loss = float64(main * r.nll)
	}
	if distribution {
		main = (1 - c.smoothing) * s.t
		r.nll = math.NaN()
		if c.smoothing != 1 || s.t != s.t {
			r.loss = (1 - c.smoothing) * (float64(s.t*log) - s.dt)
		}
	}
	if eps != 0 {
		r.loss += float64(eps * (float64(s.u*log) - s.du))
	}
	if c.zloss != 0 {
		r.z = float64(c.zloss*r.lse) * r.lse
	}
	if log != log {
		r.loss = log
	}
	r.main, r.eps = main, eps
	return r
}

// factors computes the coefficients of a finished row's gradient, which is multiplied by g (z-loss: gz). u is u_y·w_y
// (index targets).
func (c *Criterion) factors(r *finished, s *sums, u, g, gz float64) {
	main, eps := r.main, r.eps
	total := 1 + s.rest
	if s.mask && math.IsInf(s.y, -1) {
		u = 0
	}
	z := 0.0
	if c.zloss != 0 {
		z = float64(gz * float64(2*float64(c.zloss*r.lse)))
	}
	r.f = (float64(g*(main+float64(eps*s.u))) + z) / total
	r.smooth = float64(g * eps)
	r.target = float64(g * (1 - c.smoothing))
	r.y = float64(float64(g*main)*((s.ey-total)/total)) +
		float64(r.smooth*(float64(s.ey*s.u)/total-u)) + float64(z*s.ey)/total
}

// gradient writes a finished row's gradient; y is −1 with a distribution target. scr.e holds the exponentials.
func gradient[T Element, F real](dst unsafe.Pointer, r *row, y int, s *sums, f *finished, v *vectors[F], scr *scratch[F]) {
	factor, smooth, target := F(f.f), F(f.smooth), F(f.target)
	if v.u == nil {
		smooth = F(f.smooth / float64(r.classes))
	}
	// A factor this small (a tiny upstream factor, a far pivot) has lost digits as an F; a NaN or 0 has none to lose.
	wide := !isFloat64[F]() && f.f != 0 && math.Abs(f.f) < 0x1p-100
	for k := 0; k < r.classes; k += groupSize {
		n := min(groupSize, r.classes-k)
		e, g := (*group[F])(scr.e[k:]), &scr.g
		switch {
		case wide:
			for i := range g[:n] {
				g[i] = F(float64(e[i]) * f.f)
				if v.u == nil {
					g[i] -= smooth
				}
			}
		case v.u != nil || s.mask:
			for i := range g[:n] {
				g[i] = F(e[i] * factor)
			}
		default:
			for i := range g[:n] {
				g[i] = fma(e[i], factor, -smooth)
			}
		}
		if s.mask {
			load[T](&scr.x, r.x, k, n, r.step)
			for i := range g[:n] {
				u := F(1)
				if v.u != nil {
					u = v.u[k+i]
				}
				if wide && v.u == nil {
					g[i] += smooth
				}
				if !isNegInf(scr.x[i]) {
					g[i] = fma(-smooth, u, g[i])
				}
			}
		} else if v.u != nil {
			for i, u := range v.u[k : k+n] {
				g[i] = fma(-smooth, u, g[i])
			}
		}
		if r.t != nil {
			load[T](&scr.a, r.t, k, n, r.step)
			for i := range g[:n] {
				if v.w != nil {
					scr.a[i] *= v.w[k+i]
				}
				g[i] = fma(-target, scr.a[i], g[i])
			}
		}
		if y >= k && y < k+n {
			g[y-k] = F(f.y)
		}
		store[T](dst, k, n, r.step, g)
	}
}

// fma is x·y + z rounded once.
func fma[F real](x, y, z F) F {
	if isFloat64[F]() {
		return F(math.FMA(float64(x), float64(y), float64(z)))
	}
	s := float64(x)*float64(y) + float64(z)
	if math.Float64bits(s)&tie28 == 0 {
		return F(fma32(float32(x), float32(y), float32(z)))
	}
	return F(float32(s))
}

// argmax is the first class with the largest value, or −1 if there is a NaN.
func argmax[T Element, F real](p unsafe.Pointer, r *row) int {
	best, at := F(math.Inf(-1)), 0
	for k := range r.classes {
		x := one[T, F](p, k*r.step)
		if x != x {
			return -1
		}
		if x > best {
			best, at = x, k
		}
	}
	return at
}
