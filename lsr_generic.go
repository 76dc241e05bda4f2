package lsr

import (
	"math"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// This file is the arithmetic of the package: what it computes, to the bit, on every machine, as kernels in plain Go. The
// kernels in assembly give the same bits. A row's numbers depend on its logits, its target, the options and K, and on
// nothing else. What that takes:
//
//   - exp is one sequence of operations for each element, fused multiply-adds included (see elementary.go). It is taken of
//     x−m, m being the maximum of the row. A row of more than 8192 classes is taken in segments of 1024, each with a maximum
//     of its own, whose sums are brought to the row's maximum in float64.
//   - Sums go over virtual lanes, 16 of float32 or 8 of float64: element k belongs to lane k mod 16, which adds its elements
//     one after another. The sum of exponentials has twice as many. Every 32 elements of a lane, these are folded: first
//     lane l and lane l+16 of the exponentials, then adjacent pairs in a tree. The sums of these blocks are added in
//     float64, with their rounding errors. What is missing adds 0.
//   - A row is finished in float64, or partly in float32: see finishSingleRows. Sums over rows have 8 lanes, and are folded in the
//     same way.
//   - Rows of two classes that pairRows takes are computed from the difference of their logits, all in float32.

// real is a type that rows are computed in: float32 for itself and the half types, float64 for itself.
type real interface{ float32 | float64 }

// groupSize is how many elements plain Go takes at a time. It divides a block.
const groupSize = 64

// group is a group's worth of elements, of which the first n count.
type group[F real] = [groupSize]F

func isFloat64[F real]() bool { return sizeOf[F]() == 8 }

// blockOf is the number of elements after which the lanes are folded.
func blockOf[F real]() int { return coef.BlockBytes / sizeOf[F]() }

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

// widen is element k of an array.
func widen[T Element](p unsafe.Pointer, k int) float64 {
	switch v := any(*at[T](p, k)).(type) {
	case float32:
		return float64(v)
	case float64:
		return v
	case Float16:
		return float64(v.Float32())
	case BFloat16:
		return float64(v.Float32())
	}
	panic("unreachable")
}

// putTargets rounds a number for each row to the element of its target's class.
func putTargets[T Element, F real](rows unsafe.Pointer, stride, step int, labels []int32, v []F) {
	v, step = v[:len(labels)], step*sizeOf[T]()
	for r, y := range labels {
		if y < 0 {
			continue
		}
		p := unsafe.Add(rows, r*stride+int(y)*step)
		if !isHalf[T]() {
			*(*F)(p) = v[r]
		} else {
			putHalf((*T)(p), float32(v[r]))
		}
	}
}

// putHalf rounds a number to an element of a half type.
func putHalf[T Element](p *T, v float32) {
	switch p := any(p).(type) {
	case *Float16:
		*p = ToFloat16(v)
	case *BFloat16:
		*p = ToBFloat16(v)
	}
}

// Kernels in plain Go. They read and write what args say: see zlsr_args.go. Rows with a label below 0 are skipped but by
// pairRows.

// copyLabels copies labels and reports whether all are classes.
func copyLabels[L Label](to []int32, from []L, classes int) bool {
	ok := true
	for i, y := range from {
		to[i] = int32(y)
		ok = ok && uint64(y) < uint64(classes) // a number below 0 is a large one
	}
	return ok
}

// maxRows finds the maximum m of each row.
func maxRows[T Element, F real](a *args) {
	for i := range a.rows {
		if *at[int32](a.labels, i) >= 0 {
			maxRow[T, F](a, i)
		}
	}
}

func maxRow[T Element, F real](a *args, i int) {
	var x group[F]
	m, row := *lowestOf[F](a), unsafe.Add(a.x, i*a.xStride)
	for k := 0; k < a.n; k += groupSize {
		n := min(groupSize, a.n-k)
		load[T](&x, row, k, n, a.step)
		for _, x := range x[:n] {
			m = max(m, x)
		}
	}
	of[F](&a.minus)[a.first+i] = -m
}

// lowestOf is args.lowest.
func lowestOf[F real](a *args) *F { return (*F)(unsafe.Pointer(&a.lowest)) }

// of is a number for each row under way, in the type that rows are computed in.
func of[F real](p *slotsF) *[maxSlots + slotPad]F { return (*[maxSlots + slotPad]F)(unsafe.Pointer(p)) }

// lanesOf are the lanes of a block of a sum.
func lanesOf[F real](p unsafe.Pointer, block int) []F {
	return unsafe.Slice((*F)(unsafe.Add(p, block*coef.LaneBytes)), coef.LaneBytes/sizeOf[F]())
}

// addLanes adds the first n elements of a group to a block's lanes, which are cleared first for the block's first group.
func addLanes[F real](lanes []F, v *group[F], n int, start bool) {
	if start {
		clear(lanes)
	}
	for k := 0; k < n; k += len(lanes) {
		for l, v := range v[k:min(n, k+len(lanes))] {
			lanes[l] += v
		}
	}
}

// timesUnlessZero multiplies a by x, where 0·(−Inf) counts as 0.
func timesUnlessZero[F real](a, x *group[F], n int) {
	for i := range a[:n] {
		if a[i] != 0 {
			a[i] *= x[i]
		}
	}
}

// coefficients sets a to those of a form.
func coefficients[T Element, F real](a *group[F], f form, p *args, t unsafe.Pointer, k, n int) {
	switch f {
	case classwise:
		copy(a[:n], unsafe.Slice(at[F](p.u, k), n))
	case dense:
		load[T](a, t, k, n, p.step)
		w, u := unsafe.Slice(at[F](p.w, k), n), unsafe.Slice(at[F](p.u, k), n)
		for i := range a[:n] {
			a[i] = fma(a[i], w[i], u[i])
		}
	}
}

// sumRows finds x_y of each row, y being the label, adds up its exponentials e = exp(x−m), differences d = x−m and
// coefficients a, each block into lanes of its own, and stores the exponentials if there is a place for them. Beside each of the
// first args.ahead rows it finds the maximum of the next row but one.
func sumRows[T Element, F real](p *args, f form) {
	var x, e, a group[F]
	var expLanes [coef.ExpLaneBytes / 4]F
	sumE, blockSize := expLanes[:coef.ExpLaneBytes/sizeOf[F]()], blockOf[F]()
	for i := range p.rows {
		y := int(*at[int32](p.labels, i))
		if y < 0 {
			continue
		}
		m, row, t := -of[F](&p.minus)[p.first+i], unsafe.Add(p.x, i*p.xStride), unsafe.Pointer(nil)
		of[F](&p.target)[p.first+i] = F(widen[T](row, y*p.step))
		if i < p.ahead {
			maxRow[T, F](p, i+coef.RowsAhead)
		}
		if f == dense {
			t = unsafe.Add(p.t, i*p.tStride)
		}
		for k := 0; k < p.n; k += groupSize {
			n := min(groupSize, p.n-k)
			load[T](&x, row, k, n, p.step)
			expGroup(&e, &x, n, m)
			if p.e != nil {
				eRow := unsafe.Add(p.e, i*p.eStride)
				store[F](eRow, k, n, p.eStep, &e)
			}
			block, start := i*p.rowBlocks+k/blockSize, k%blockSize == 0
			addLanes(sumE, &e, n, start)
			if lanesE := lanesOf[F](p.lanesE, block); copy(lanesE, sumE) < p.n { // or the other half is 0
				for l, v := range sumE[len(lanesE):] {
					lanesE[l] += v
				}
			}
			lanesD := lanesOf[F](p.lanesD, block)
			if f == uniform {
				addLanes(lanesD, &x, n, start)
				continue
			}
			coefficients[T](&a, f, p, t, k, n)
			addLanes(lanesOf[F](p.lanesA, block), &a, n, start)
			timesUnlessZero(&a, &x, n)
			addLanes(lanesD, &a, n, start)
		}
	}
}

// twofold is a sum with its rounding error.
type twofold struct{ hi, lo float64 }

// add is TwoSum (Knuth).
func (t *twofold) add(b float64) {
	h := t.hi + b
	v := h - t.hi
	t.lo += (t.hi - (h - v)) + (b - v)
	t.hi = h
}

// plus is the sum with one more term.
func (t *twofold) plus(bias float64) float64 {
	h := t.hi + bias
	if t.lo != t.lo { // the error of an infinite sum
		return h
	}
	return h + t.lo
}

// foldLanes adds up each row's lanes: those of a block by a tree of adjacent pairs, several blocks in float64, and the bias.
func foldLanes[F real](a *args) {
	for i := range a.folds {
		if a.blocks == 1 {
			*at[F](a.sums, i) = tree(lanesOf[F](a.lanes, i), a.n) + F(a.bias)
			continue
		}
		var sum twofold
		for b := range a.blocks {
			sum.add(float64(tree(lanesOf[F](a.lanes, i*a.blocks+b), math.MaxInt)))
		}
		*at[F](a.sums, i) = F(sum.plus(a.bias))
	}
}

// tree adds up lanes, of which the first n may be other than 0.
func tree[F real](t []F, n int) F {
	switch {
	case n <= 2:
		return t[0] + t[1]
	case n <= 4:
		return (t[0] + t[1]) + (t[2] + t[3])
	}
	s := ((t[0] + t[1]) + (t[2] + t[3])) + ((t[4] + t[5]) + (t[6] + t[7]))
	if len(t) > 8 && n > 8 {
		s += ((t[8] + t[9]) + (t[10] + t[11])) + ((t[12] + t[13]) + (t[14] + t[15]))
	}
	return s
}

// finishRows makes losses of the sums of rows, 8 at a time, and with a gradient its factors:
//
//	L − m = log1p(rest)
//	loss  = S·(L−m) − b, where S = main + eu, b = main·y + epsD·d and y = x_y − m
//	∂/∂x_k = f·e_k − smooth·a_k (a_k = 1 if uniform), but at the target gy
func finishRows[F real](a *args, grad bool) {
	for i := range finished(a) {
		rest, minus := float64(of[F](&a.rest)[i]), float64(of[F](&a.minus)[i])
		y := float64(of[F](&a.target)[i]) + minus
		log := log1p(rest)
		lse := log - minus
		b, main := 0.0, a.main[i]
		if main != 0 { // 0·(−Inf) counts as 0
			b = float64(main * y)
		}
		b = math.FMA(a.epsD, float64(of[F](&a.d)[i]), b)
		sum := main + a.eu[i]
		loss := math.FMA(sum, log, -b)
		z := float64(float64(a.lambda*lse) * lse)
		nll := log - y
		a.loss[i], a.z[i], a.lse[i] = loss, z, lse
		lane := i % coef.RowLanes
		a.sumLoss[lane] += loss
		a.sumZ[lane] += z
		a.sumNLL[lane] += nll
		if !grad {
			continue
		}
		total, ey, g := rest+1, float64(of[F](&a.ey)[i]), float64(of[F](&a.g)[i])
		inv := 1 / total
		zg := float64(a.gz[i] * float64(float64(2*a.lambda)*lse))
		of[F](&a.f)[i] = F(float64(math.FMA(g, sum, zg) * inv))
		p := float64(ey * inv)
		gy := float64(main * float64((ey-total)*inv))
		gy += math.FMA(a.eu[i], p, -a.uy[i])
		of[F](&a.gy)[i] = F(math.FMA(g, gy, float64(zg*p)))
	}
}

// finished is up to which slot rows are finished: whole lanes.
func finished(a *args) int {
	return roundUp(a.first+a.rows, coef.RowLanes)
}

// finishSingleRows is finishRows for rows of float32 with an index target and uniform smoothing, without weights, z-loss or masks:
//
//	L − m = log(1 + rest)
//	loss  = L−m − (1−ε)·y − ε/K·d
//	∂/∂x_k = f·e_k − smooth, with f = g/(1 + rest); at the target (1−ε)·(e_y − 1 − rest)·f + ε·e_y·f − smooth
//
// The logarithm's fraction and the gradient are computed in float32.
func finishSingleRows(a *args, grad bool) {
	rest, f, gy := of[float32](&a.rest), of[float32](&a.f), of[float32](&a.gy)
	var exponents, fractions, logs group[float32]
	for i := range finished(a) {
		if i%groupSize == 0 {
			n := min(groupSize, finished(a)-i)
			for r, rest := range rest[i : i+n] {
				exponents[r], fractions[r] = reduceLog(rest)
			}
			logGroup32(&logs, &fractions, n)
		}
		log := math.FMA(float64(exponents[i%groupSize]), coef.Ln2Hi, float64(logs[i%groupSize]))
		minus := float64(of[float32](&a.minus)[i])
		y := float64(of[float32](&a.target)[i]) + minus
		nll := log - y
		if a.keep == 0 { // 0·(−Inf) counts as 0
			y = 0
		}
		loss := math.FMA(-a.epsD, float64(of[float32](&a.d)[i]), math.FMA(-a.keep, y, log))
		a.loss[i], a.lse[i] = loss, log-minus
		lane := i % coef.RowLanes
		a.sumLoss[lane] += loss
		a.sumNLL[lane] += nll
		if grad {
			total, ey := rest[i]+1, of[float32](&a.ey)[i]
			f[i] = of[float32](&a.g)[i] / total
			p := fma32(float32(ey*f[i]), float32(a.eps), -of[float32](&a.smooth)[i])
			gy[i] = fma32(float32(a.keep), float32((ey-total)*f[i]), p)
		}
	}
}

// expTargets finds the exponentials of the targets' logits.
func expTargets[F real](a *args) {
	var e, y group[F]
	for s := a.first; s < a.first+a.rows; s += groupSize {
		n := copy(y[:], of[F](&a.target)[s:a.first+a.rows])
		for i := range n {
			y[i] += of[F](&a.minus)[s+i]
		}
		expGroup(&e, &y, n, 0)
		copy(of[F](&a.ey)[s:], e[:n])
	}
}

// pairRows computes rows of two classes of float32 side by side, whose smoothing is uniform and which have neither weights, z-loss nor
// masks, all in float32 (where a gap may overflow): with the gap x_o − x_y between the other class and the target, and e = exp(−|gap|),
//
//	L − m    = log(1+e)
//	−log p_y = L−m + max(gap, 0)
//	loss     = L−m − ε/2·gap + max(gap, 0)
//	∂/∂x_o   = −∂/∂x_y = g·(p_o − ε/2), p_o = e/(1+e), or 1/(1+e) where the gap is above 0
//
// Sums over rows are of float64. Rows with a label below 0 add nothing; whatever is written as their gradient is to be overwritten.
func pairRows(a *args, grad bool) {
	halfEps := float32(a.halfEps)
	var e, d, logs, gaps, maxima group[float32]
	for start := 0; start < a.rows; start += groupSize {
		n := min(groupSize, a.rows-start)
		x := unsafe.Slice((*[2]float32)(a.x), a.rows)[start:]
		labels := unsafe.Slice((*int32)(a.labels), a.rows)[start:]
		for i := range n {
			if labels[i] < 0 {
				maxima[i], gaps[i], d[i] = 0, 0, 0
				continue
			}
			m, gap := max(x[i][0], x[i][1]), x[i][0]-x[i][1]
			if labels[i] == 0 {
				gap = -gap
			}
			maxima[i], gaps[i], d[i] = m, gap, min(gap, -gap)
			if math.IsInf(float64(m), 0) {
				d[i] = float32(math.NaN())
			}
		}
		expGroup32(&e, &d, n, 0)
		logGroup32(&logs, &e, n)
		for i := range n {
			r, log, gap := start+i, logs[i], gaps[i]
			above, finite := max(gap, 0), min(gap, math.MaxFloat32) // of a target's −Inf, above is to be left
			if halfEps == 0 {
				finite = 0 // 0·Inf counts as 0
			}
			nll, loss := log+above, fma(-halfEps, finite, log)+above
			if labels[i] < 0 {
				loss, nll = 0, 0
			}
			a.sumLoss[r%coef.RowLanes] += float64(loss)
			a.sumNLL[r%coef.RowLanes] += float64(nll)
			if a.outStep != 0 {
				for n, v := range [...]float32{pairLoss: loss, pairNLL: nll, pairLog: log, pairMax: maxima[i]} {
					*at[float32](a.out, n*pairSlots+r) = v
				}
			}
			if !grad {
				continue
			}
			p := e[i]
			if gap > 0 {
				p = 1
			}
			g := float32(*at[float32](a.factors, r) * (p/(1+e[i]) - halfEps))
			gradient := at[[2]float32](a.dst, r)
			gradient[0], gradient[1] = g, -g
			if labels[i] == 0 {
				gradient[0], gradient[1] = -g, g
			}
		}
	}
}

// scaleRows turns a row's exponentials into its gradient f·e_k − smooth·a_k, but for what the target adds.
func scaleRows[T Element, F real](p *args, fm form) {
	var e, a group[F]
	for i := range p.rows {
		if *at[int32](p.labels, i) < 0 {
			continue
		}
		f, smooth := of[F](&p.f)[p.first+i], of[F](&p.smooth)[p.first+i]
		eRow, dst, t := unsafe.Add(p.e, i*p.eStride), unsafe.Add(p.dst, i*p.dstStride), unsafe.Pointer(nil)
		if fm == dense {
			t = unsafe.Add(p.t, i*p.tStride)
		}
		for k := 0; k < p.n; k += groupSize {
			n := min(groupSize, p.n-k)
			load[F](&e, eRow, k, n, p.eStep)
			if fm == uniform {
				for i := range e[:n] {
					e[i] = fma(e[i], f, -smooth)
				}
			} else {
				coefficients[T](&a, fm, p, t, k, n)
				for i := range e[:n] {
					e[i] = fma(-smooth, a[i], F(e[i]*f))
				}
			}
			store[T](dst, k, n, p.step, &e)
		}
	}
}
