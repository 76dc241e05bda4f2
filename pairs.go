package lsr

import "unsafe"

// Rows of two classes that are computed in float32, with index targets, uniform smoothing, and neither weights, z-loss nor masks, have
// a kernel that does all of a row: see pairRows.

// pairs is a worker's memory for them: a copy of what does not lie as the kernels want it, and what they want and give for each row.
type pairs[F real] struct {
	on      bool
	x       []F    // logits, then gradient
	half    []byte // half types side by side
	planes  []F    // or widened, as two planes
	labels  []int32
	factors []F     // of the gradient, of which
	same    int     // the first so many are
	factor  float64 // this, rounded
	out     []F     // see args.out
}

// takesPairs says whether a job's rows are such.
func (w *worker[T, F]) takesPairs(j *job[T], v *vectors[F]) bool {
	return j.logits.Classes == 2 && w.takesSingle(j, v)
}

// preparePairs sets what the rows have in common.
func (w *worker[T, F]) preparePairs(j *job[T]) {
	p := &w.pairs
	w.halfEps = j.c.smoothing / 2
	p.out = grow(p.out, pairArrays*pairSlots)
	w.out, w.outStep = base(p.out), 0
	if j.perRow.Loss != nil || j.perRow.LSE != nil {
		w.outStep = sizeOf[F]()
	}
	if !j.grads() {
		return
	}
	rows := roundUp(min(j.rows, maxPairs), pairStep)
	p.factors = grow(p.factors, maxPairs)
	w.factors = base(p.factors)
	g := j.g
	switch up := j.perRow.Upstream; len(up) {
	case 0:
	case 1:
		g = upstream(g, up[0])
	default:
		p.same = 0 // each row has its own
		return
	}
	if p.same < rows || p.factor != g {
		for i := range rows {
			p.factors[i] = F(g)
		}
		p.same, p.factor = rows, g
	}
}

// pairBlock is block for rows of two classes.
func (w *worker[T, F]) pairBlock(j *job[T], lo, hi int) (p partial) {
	w.sumLoss, w.sumNLL = [len(w.sumLoss)]float64{}, [len(w.sumNLL)]float64{}
	for i := lo; i < hi; {
		rows := min(hi-i, maxPairs)
		if whole := rows &^ (pairStep - 1); whole > 0 && sideBySide[T, F](&j.logits) && (!j.grads() || sideBySide[T, F](&j.dst)) {
			rows = whole
			w.x, w.labels = j.logits.row(i), unsafe.Pointer(&j.labels[i])
			if j.grads() {
				w.dst = j.dst.row(i)
			}
			w.rows = rows
		} else {
			w.rows = w.copyIn(j, i, rows)
		}
		p.correct += w.pairChunk(j, i, rows)
		i += rows
	}
	p.loss, p.nll = treeOf(&w.sumLoss), treeOf(&w.sumNLL)
	return p
}

// sideBySide reports whether a batch's rows are as the kernels want them: in F, one right after the other.
func sideBySide[T Element, F real](b *Batch[T]) bool {
	return !isHalf[T]() && b.Inner == 1 && b.Stride == b.Classes
}

// pairChunk computes rows from row i on, where the view says they are, and returns how many of them have their target on top.
func (w *worker[T, F]) pairChunk(j *job[T], i, rows int) (correct int) {
	p, labels := &w.pairs, unsafe.Slice((*int32)(w.labels), rows)
	if j.c.top1 {
		x := unsafe.Slice((*[2]F)(w.x), rows)
		for r, y := range labels {
			if y == 0 && x[r][0] >= x[r][1] || y > 0 && x[r][1] > x[r][0] {
				correct++
			}
		}
	}
	if up := j.perRow.Upstream; j.grads() && len(up) > 1 {
		for r := range rows {
			p.factors[r] = F(upstream(j.g, up[i+r]))
		}
	}
	if j.grads() {
		w.run(opPairGrad, 0)
		if w.dst == base(p.x) {
			w.copyPairs(&j.dst, i, p.x[:2*rows], true)
		}
	} else {
		w.run(opPair, 0)
	}
	if j.perRow.Loss != nil {
		for r := range rows {
			j.perRow.Loss[i+r] = float64(p.out[pairLoss*pairSlots+r])
		}
	}
	if j.perRow.LSE != nil {
		for r, y := range labels {
			j.perRow.LSE[i+r] = 0
			if y >= 0 {
				j.perRow.LSE[i+r] = float64(p.out[pairMax*pairSlots+r]) + float64(p.out[pairLog*pairSlots+r])
			}
		}
	}
	w.zeros(j, i, labels)
	return correct
}

// copyIn copies rows from row i on, and rows to be ignored after them, and returns how many there are then.
func (w *worker[T, F]) copyIn(j *job[T], i, rows int) int {
	p, all := &w.pairs, roundUp(rows, pairStep)
	p.x, p.labels = grow(p.x, 2*all), grow(p.labels, all)
	for r := copy(p.labels, j.labels[i:i+rows]); r < all; r++ {
		p.labels[r] = -1
	}
	if raceEnabled && j.ignored != 0 { // ignored rows count as not read
		for r, y := range p.labels {
			if y >= 0 {
				w.copyPairs(&j.logits, i+r, p.x[2*r:2*r+2], false)
			}
		}
	} else {
		w.copyPairs(&j.logits, i, p.x[:2*rows], false)
	}
	w.x, w.dst, w.labels = base(p.x), base(p.x), unsafe.Pointer(&p.labels[0])
	return all
}

// copyPairs copies rows of a batch, from row i on, to x, or back.
func (w *worker[T, F]) copyPairs(b *Batch[T], i int, x []F, back bool) {
	p, rows, half := &w.pairs, len(x)/2, isHalf[T]()
	for r := 0; r < rows; {
		position, n := (i+r)%b.Inner, rows-r
		if b.Inner > 1 { // what lies equally far apart
			n = min(n, b.Inner-position)
		}
		outside, inside := b.rowAt(i+r, position), x[2*r:2*(r+n)]
		switch {
		case b.Inner > 1 && half:
			p.planes = grow(p.planes, 2*pairSlots)
			first, second := p.planes[:n], p.planes[pairSlots:pairSlots+n]
			if back {
				w.interleave(base(first), base(second), inside, true)
			}
			w.convert(outside, first, back)
			w.convert(unsafe.Pointer(at[T](outside, b.Inner)), second, back)
			if !back {
				w.interleave(base(first), base(second), inside, false)
			}
		case b.Inner > 1:
			w.interleave(outside, unsafe.Pointer(at[T](outside, b.Inner)), inside, back)
		case !half:
			move[T](outside, base(inside), b.rowBytes(), n, back)
		case b.Stride == 2:
			w.convert(outside, inside, back)
		default:
			p.half = grow(p.half, 4*n)
			if back {
				w.convert(base(p.half), inside, true)
			}
			move[T](outside, base(p.half), b.rowBytes(), n, back)
			if !back {
				w.convert(base(p.half), inside, false)
			}
		}
		r += n
	}
}

// move copies n pairs that lie a stride apart to where they lie side by side, or back.
func move[T Element](apart, beside unsafe.Pointer, stride, n int, back bool) {
	for i := range n {
		a, b := (*[2]T)(unsafe.Add(apart, i*stride)), at[[2]T](beside, i)
		if back {
			a, b = b, a
		}
		*b = *a
	}
}

// convert widens elements, or rounds back to them.
func (w *worker[T, F]) convert(elements unsafe.Pointer, f []F, back bool) {
	done := 0
	if whole := len(f) &^ (vectorRows[F]() - 1); w.isa != plainGo && whole > 0 {
		caller := w.view
		w.rows, w.n, w.plane, w.x, w.dst = whole, 1, base(f), elements, elements
		if back {
			w.run(opNarrow, 0)
		} else {
			w.run(opWiden, 0)
		}
		w.view, done = caller, whole
	}
	var g group[F]
	for k := done; k < len(f); k += groupSize {
		n := min(groupSize, len(f)-k)
		if back {
			copy(g[:], f[k:k+n])
			store[T](elements, k, n, 1, &g)
		} else {
			load[T](&g, elements, k, n, 1)
			copy(f[k:], g[:n])
		}
	}
}

// interleave copies planes of the two classes to pairs, or back.
func (w *worker[T, F]) interleave(first, second unsafe.Pointer, pairs []F, back bool) {
	rows, done := len(pairs)/2, 0
	if whole := rows &^ (vectorRows[F]() - 1); w.isa != plainGo {
		caller, beside := w.view, 2*sizeOf[F]()
		w.planeStep, w.xStride, w.dstStride = int(uintptr(second)-uintptr(first)), beside, beside
		w.first, w.n = 0, 2
		for ; done < whole; done += w.rows {
			w.rows, w.plane = min(whole-done, maxSlots), unsafe.Pointer(at[F](first, done))
			w.x = base(pairs[2*done:])
			w.dst = w.x
			if back {
				call(w.isa, float32Kind, opTranspose, &w.args)
			} else {
				call(w.isa, float32Kind, opTransposeBack, &w.args)
			}
		}
		w.view = caller
	}
	for r := done; r < rows; r++ {
		for k, plane := range [...]unsafe.Pointer{first, second} {
			if f := at[F](plane, r); back {
				*f = pairs[2*r+k]
			} else {
				pairs[2*r+k] = *f
			}
		}
	}
}
