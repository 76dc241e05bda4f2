package asm

import (
	"math/bits"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels whose vector lanes are classes. Those of AVX2 want at least as many of them as a vector has lanes.

// whole is n, less what it is modulo the power of two d.
func (b *builder) whole(d int) reg.GPVirtual {
	r := b.load("n")
	b.ANDQ(operand.I32(-d), r)
	return r
}

// last is where the last vector of a row starts, which may overlap the one before, and which of its elements there are: all,
// unless the row is shorter.
func (b *builder) last() (at reg.GPVirtual, t *tail) {
	at = b.load("n")
	if b.ISA == AVX512 {
		count, width, zero := b.load("n"), b.GP64(), b.GP64()
		b.MOVQ(operand.I32(int32(b.width())), width)
		b.CMPQ(count, width)
		b.CMOVQGT(width, count)
		t = b.tailOf(count)
		b.XORQ(zero, zero)
		b.SUBQ(width, at)
		b.CMOVQLT(zero, at)
		return at, t
	}
	b.SUBQ(operand.Imm(uint64(b.width())), at)
	return at, nil
}

// max: m = max x_k.
func (b *builder) max() {
	const chains = 4
	b.doc("finds the maximum m of each row.")
	last, tl := b.last()
	x, end4 := b.load("x"), b.whole(chains*b.width())
	low := b.broadcast(b.arg("lowest"))
	b.rows(func(_, slot, _ reg.GPVirtual) {
		k := b.GP64()
		b.XORQ(k, k)
		var m [chains]vec
		for i := range m {
			m[i] = b.copy(low)
		}
		element := func(k reg.Register, i int) operand.Mem { return b.element(x, k, i, b.Element.size()) }
		b.loop(k, end4, chains*b.width(), func() {
			for i := range m {
				b.maxT(m[i], element(k, i), nil)
			}
		})
		b.loop(k, last, b.width(), func() { b.maxT(m[0], element(k, 0), nil) })
		b.maxT(m[1], element(last, 0), tl)
		for step := 1; step < chains; step *= 2 {
			for i := 0; i < chains; i += 2 * step {
				b.maximum(m[i], m[i], m[i+step])
			}
		}
		b.putMaximum(m[0], slot, 0)
	}, func() { b.ADDQ(b.arg("xStride"), x) })
}

// putMaximum stores the largest element of a vector, negative, as the maximum of the row so many after a slot's.
func (b *builder) putMaximum(m vec, slot reg.Register, rows int) {
	largest := b.horizontalMax(m)
	b.VXORPS(b.sign(), largest, largest)
	b.ps(b.VMOVSS, b.VMOVSD, largest, after(b.slot("minus", slot), rows*b.f()))
}

// maxT sets m = max(m, elements in memory).
func (b *builder) maxT(m vec, x operand.Mem, t *tail) {
	switch {
	case t != nil:
		b.ps(b.VMAXPS, b.VMAXPD, b.loadT(x, t), m, t.k, m)
	case b.Element <= Float64:
		b.maximum(m, m, x)
	default:
		b.maximum(m, m, b.loadT(x, nil))
	}
}

// scalarT loads one element, widened to F.
func (b *builder) scalarT(m operand.Mem) reg.Register {
	x := b.XMM()
	switch b.Element {
	case Float32:
		b.VMOVSS(m, x)
	case Float64:
		b.VMOVSD(m, x)
	case Float16:
		b.VPBROADCASTW(m, x)
		b.VCVTPH2PS(x, x)
	case BFloat16:
		b.VPBROADCASTW(m, x)
		b.VPSLLD(operand.Imm(16), x, x)
	}
	return x
}

// loadScalar spreads a float64 in memory, rounded to F.
func (b *builder) loadScalar(m operand.Mem) vec {
	x := b.XMM()
	b.VMOVSD(m, x)
	if !b.double() {
		b.VCVTSD2SS(x, x, x)
	}
	return b.broadcast(x)
}

// coefficients loads the coefficients of a vector of classes.
func (b *builder) coefficients(u, w, t, k reg.Register, i int, tl *tail) vec {
	mem := func(base reg.Register) operand.Mem { return b.element(base, k, i, b.f()) }
	a := b.loadT(b.element(t, k, i, b.Element.size()), tl)
	if tl == nil {
		b.mulAdd(a, b.loadF(mem(w), nil), mem(u))
	} else {
		b.mulAdd(a, b.loadF(mem(w), tl), b.loadF(mem(u), tl))
	}
	return a
}

// sum adds up e = exp(x−m), d = x−m and a, each in lanes.
func (b *builder) sum() {
	b.docSum("")
	block := coef.BlockBytes / b.f()
	group := coef.ExpLaneBytes / b.f() // elements that fill the lanes of Σe
	vectors := 2 * b.parts()
	// What is left of a row after groups is written out, too, where that is 3 % faster.
	woven := b.ISA == AVX512 && b.Element == Float32 && b.Form == Uniform
	unrolled := b.ISA == AVX2 && b.Element == Float32 && b.Form == Uniform
	var last *tail
	if woven || unrolled {
		last = b.lastTail()
	}
	b.sumRows(func(r *rowSums) {
		k, limit := b.GP64(), b.GP64()
		b.XORQ(k, k)
		blocks := b.label("block")
		b.Label(blocks)
		r.clear()
		b.LEAQ(operand.Mem{Base: k, Disp: block}, limit)
		b.CMPQ(limit, b.arg("n"))
		b.CMOVQGT(b.arg("n"), limit)
		groups := func(n int) { // n at a time
			end := b.GP64()
			b.MOVQ(limit, end)
			b.ANDQ(operand.I32(int32(-n*group)), end)
			b.loop(k, end, n*group, func() { r.vectors(k, n*vectors, nil) })
		}
		if b.ISA == AVX512 && b.Form == Uniform {
			groups(2)
		}
		groups(1)
		switch {
		case woven: // one vector, or two
			one, done, next := b.label("one"), b.label("added"), b.GP64()
			b.CMPQ(k, limit)
			b.JGE(operand.LabelRef(done))
			b.LEAQ(operand.Mem{Base: k, Disp: b.width()}, next)
			b.CMPQ(next, limit)
			b.JGE(operand.LabelRef(one))
			r.vectors(k, 2, last)
			b.JMP(operand.LabelRef(done))
			b.Label(one)
			r.vectors(k, 1, last)
			b.Label(done)
		case unrolled: // whole vectors, and a part of one
			done, left := b.label("added"), b.GP64()
			b.MOVQ(limit, left)
			b.SUBQ(k, left)
			b.JEQ(operand.LabelRef(done))
			parts := make([]string, vectors)
			for i := range parts {
				parts[i] = b.label("part")
				if upTo := operand.Imm(uint64((i + 1) * b.width())); i < vectors-1 {
					b.CMPQ(left, upTo)
					b.JLT(operand.LabelRef(parts[i]))
					r.oneLater(k, i, nil)
					r.one(k, i, nil)
					b.CMPQ(left, upTo)
					b.JEQ(operand.LabelRef(done))
				}
			}
			for i := vectors - 1; i >= 0; i-- {
				b.Label(parts[i])
				r.oneLater(k, i, last)
				r.one(k, i, last)
				if i > 0 {
					b.JMP(operand.LabelRef(done))
				}
			}
			b.Label(done)
		default:
			b.loop(k, limit, b.width(), func() {
				tl := r.tailAt(k)
				r.oneLater(k, 0, tl)
				r.one(k, 0, tl)
				r.rotate()
			})
		}
		r.store()
		b.MOVQ(limit, k)
		b.CMPQ(k, b.arg("n"))
		b.JLT(operand.LabelRef(blocks))
	})
}

// lastTail is the tail of a row's last vector, which with AVX-512 may be whole, and with AVX2 is that of a part.
func (b *builder) lastTail() *tail {
	count := b.load("n")
	if b.ISA == AVX512 {
		b.DECQ(count)
	}
	b.ANDQ(operand.Imm(uint64(b.width()-1)), count)
	if b.ISA == AVX512 {
		b.INCQ(count)
	}
	t := b.tailOf(count)
	t.part = b.ISA == AVX2
	return t
}

// docSum comments a kernel for sums.
func (b *builder) docSum(more string) {
	b.doc("finds x_y of each row, y being the label, and adds up e = exp(x−m) and, in lanes of their own,", map[Form]string{
		Uniform: "d = x−m.",
		Dense:   "a = t·w + u and a·d, where d = x−m.",
	}[b.Form], "Beside the first rows it finds the maxima of later ones."+more)
}

// sumRows runs the body, which makes a row's sums and a later row's maximum, for each row that is not skipped.
func (b *builder) sumRows(body func(r *rowSums)) {
	exp := b.expConstants()
	r := &rowSums{builder: b, constants: &exp, x: b.load("x"), later: b.GP64(), lane: b.GP64()}
	if b.Op == SumExp {
		r.e = b.load("e")
	}
	if b.Form == Dense {
		r.t, r.u, r.w = b.load("t"), b.load("u"), b.load("w")
	}
	b.rows(func(row, slot, label reg.GPVirtual) {
		b.MOVQ(b.arg("xStride"), r.later)
		b.LEAQ(at(r.x, r.later, coef.RowsAhead, 0), r.later)
		b.CMPQ(row, b.arg("ahead"))
		b.CMOVQGE(r.x, r.later)
		b.MOVQ(row, r.lane)
		b.IMULQ(b.arg("rowBlocks"), r.lane)
		b.SHLQ(operand.Imm(uint64(bits.TrailingZeros(coef.LaneBytes))), r.lane)
		y := b.scalarT(at(r.x, label, b.Element.size(), 0))
		b.ps(b.VMOVSS, b.VMOVSD, y, b.slot("target", slot))

		r.minus, r.max = b.broadcast(b.slot("minus", slot)), b.broadcast(b.arg("lowest"))
		body(r)
		found := b.label("found")
		b.CMPQ(r.x, r.later)
		b.JEQ(operand.LabelRef(found))
		b.putMaximum(r.max, slot, coef.RowsAhead)
		b.Label(found)
	}, func() {
		b.ADDQ(b.arg("xStride"), r.x)
		if r.e != nil {
			b.ADDQ(b.arg("eStride"), r.e)
		}
		if r.t != nil {
			b.ADDQ(b.arg("tStride"), r.t)
		}
	})
}

// rowSums are the sums of a block of a row, in registers.
type rowSums struct {
	*builder
	constants        *expConstants
	minus            vec // −m
	max              vec // of the later row
	x, later         reg.GPVirtual
	e, t, u, w       reg.GPVirtual
	lane             reg.GPVirtual // offset of the lanes that the next vector is added to
	rotated          bool          // the two vectors of each sum may have changed places
	sumE, sumD, sumA []vec
}

// clear starts a block.
func (r *rowSums) clear() {
	zeros := func(n int) (sums []vec) {
		for range n {
			sums = append(sums, r.zero())
		}
		return sums
	}
	r.sumE, r.sumD = zeros(2*r.parts()), zeros(r.parts())
	if r.Form != Uniform {
		r.sumA = zeros(r.parts())
	}
}

// rotate lets the second vector of each sum be the next to be added to.
func (r *rowSums) rotate() {
	r.rotated = true
	for _, sums := range [][]vec{r.sumE, r.sumD, r.sumA} {
		if len(sums) > 1 {
			first := r.copy(sums[0])
			for i, v := range append(sums[1:len(sums):len(sums)], first) {
				r.move(v, sums[i])
			}
		}
	}
	if r.parts() > 1 { // of two: they have changed places
		r.XORQ(operand.Imm(32), r.lane)
	}
}

// schedules are orders of the instructions of four vectors of float32 with AVX2, for uniform smoothing, by operation. The first four pieces
// are the chains of instructions from differences to sums of exponentials, the others what else there is to do for the vectors. They
// were found by trial on Intel: of ten thousand small changes, those were kept by which a loop from the nearest cache became faster.
var schedules = map[Op]string{
	Sum:    "0040114000004156150000013101211266101112222317221232373322233333333322",
	SumExp: "0410051440004010150000021111116011132666220102121233372222722333333233223333",
}

// scheduled adds four vectors, the i-th from class k on and those after it, to the sums, in the order of a schedule.
func (r *rowSums) scheduled(k reg.Register, i int, schedule string) {
	var d [4]vec
	r.interleave(2*len(d), schedule, func(piece int) {
		number := piece % len(d)
		i := i + number
		if piece < len(d) {
			d[number] = r.difference(k, i, nil)
			r.addExponential(k, i, nil, d[number])
			return
		}
		r.prefetch(k, i)
		r.oneLater(k, i, nil)
		r.addDifference(k, i, nil, d[number])
	})
}

// vectors adds n vectors from class k on to the sums. The last of them may have a tail.
func (r *rowSums) vectors(k reg.Register, n int, last *tail) {
	skew := 99 // as few as there are registers for
	switch {
	case r.ISA == AVX512 && r.Form == Uniform && r.Element == Float32:
		skew = 2
	case r.ISA == AVX512 && r.Form == Uniform && !r.double():
		skew = 3
	case r.ISA == AVX512:
		skew = 7
	case r.Form == Uniform && r.double():
		skew = 19
	case r.Form == Uniform:
		skew = 10
	}
	whole := n // vectors
	if last != nil {
		whole--
	}
	first := 0
	if r.ISA == AVX2 && r.Element == Float32 && r.Form == Uniform {
		for ; first+4 <= whole; first += 4 {
			r.scheduled(k, first, schedules[r.Op])
		}
	}
	r.weave(n-first, skew, func(i int) {
		var tl *tail
		i += first
		if i == whole {
			tl = last
		}
		if r.Element == BFloat16 && i|1 < whole {
			r.halfLater(k, i)
		} else {
			r.oneLater(k, i, tl)
		}
		r.one(k, i, tl)
	})
}

// halfLater finds the maximum of every other of two vectors' worth of bfloat16, the i-th and its neighbour from class k on of the
// later row: without widening each, which takes one instruction more.
func (r *rowSums) halfLater(k reg.Register, i int) {
	v, upper := r.vector(), r.data.uint32(0xFFFF0000)
	r.VMOVUPS(r.element(r.later, k, i&^1, r.Element.size()), v)
	switch {
	case i%2 == 0:
		r.VPSLLD(operand.Imm(16), v, v)
	case r.ISA == AVX512:
		r.VPANDD(upper, v, v)
	default:
		r.VPAND(upper, v, v)
	}
	r.maximum(r.max, r.max, v)
}

// oneLater finds the maximum of the i-th vector from class k on of the later row.
func (r *rowSums) oneLater(k reg.Register, i int, tl *tail) {
	later := r.element(r.later, k, i, r.Element.size())
	switch {
	case tl == nil || r.ISA == AVX512:
		r.maxT(r.max, later, tl)
	case tl.exact != 0:
		later.Disp -= (r.width() - tl.exact) * r.Element.size() // overlaps the one before
		r.maxT(r.max, later, nil)
	case tl.part:
		r.maxT(r.max, r.element(r.later, r.load("n"), -1, r.Element.size()), nil)
	default: // that, if it is the last
		from := r.load("n")
		r.SUBQ(operand.Imm(uint64(r.width())), from)
		r.CMPQ(tl.index, from)
		r.CMOVQLT(tl.index, from)
		r.maxT(r.max, r.element(r.later, from, 0, r.Element.size()), nil)
	}
}

// element is where vector i from class k on is, in memory of elements of a size.
func (b *builder) element(base, k reg.Register, i, size int) operand.Mem {
	m := operand.Mem{Base: base, Disp: i * b.width() * size}
	if k != nil {
		m.Index, m.Scale = k, uint8(size)
	}
	return m
}

// one adds the i-th vector from class k on to the sums, and stores the exponentials if there is a place for them.
func (r *rowSums) one(k reg.Register, i int, tl *tail) {
	if tl == nil {
		r.prefetch(k, i)
	}
	d := r.difference(k, i, tl)
	r.addDifference(k, i, tl, d)
	r.addExponential(k, i, tl, d)
}

// prefetch prefetches what follows later, where a cache line of it starts: logits, and the gradient's place.
func (r *rowSums) prefetch(k reg.Register, i int) {
	if x := r.element(r.x, k, i, r.Element.size()); x.Disp%64 == 0 {
		r.PREFETCHT0(after(x, coef.AheadBytes))
	}
	if r.e != nil && r.Element <= Float64 {
		r.prefetchSoon(r.element(r.e, k, i, r.f()))
	}
}

// difference is x − m of the i-th vector from class k on.
func (r *rowSums) difference(k reg.Register, i int, tl *tail) vec {
	x := r.element(r.x, k, i, r.Element.size())
	if tl == nil && r.Element <= Float64 {
		d := r.vector()
		r.add(d, r.minus, x)
		return d
	}
	d := r.loadT(x, tl)
	r.add(d, d, r.minus)
	return d
}

// addDifference adds d, or a and a·d, to the sums.
func (r *rowSums) addDifference(k reg.Register, i int, tl *tail, d vec) {
	sumD := r.sumD[i%len(r.sumD)]
	if r.Form == Uniform {
		r.addExisting(sumD, d, tl)
	} else {
		a := r.coefficients(r.u, r.w, r.t, k, i, tl)
		sumA := r.sumA[i%len(r.sumA)]
		r.add(sumA, sumA, a)
		ad := r.vector()
		r.mul(ad, a, d)
		r.keepIf(ad, notEqual, a, r.zero()) // 0·(−Inf) counts as 0
		r.add(sumD, sumD, ad)
	}
}

// addExponential adds exp(d) to the sums, and stores it if there is a place for it.
func (r *rowSums) addExponential(k reg.Register, i int, tl *tail, d vec) {
	v := r.exp(r.constants, d)
	r.addExisting(r.sumE[i%len(r.sumE)], v, tl)
	if r.e == nil {
		return
	}
	e := r.element(r.e, k, i, r.f())
	if r.ISA == AVX512 || tl == nil || tl.part {
		r.storeF(v, e, tl)
		return
	}
	part, stored := r.label("part"), r.label("stored") // the tail may be a whole vector
	r.CMPQ(r.exist(tl), operand.Imm(uint64(r.width())))
	r.JLT(operand.LabelRef(part))
	r.storeF(v, e, nil)
	r.JMP(operand.LabelRef(stored))
	r.Label(part)
	r.storeF(v, e, tl)
	r.Label(stored)
}

// store stores the lanes, and ends the block.
func (r *rowSums) store() {
	half := len(r.sumE) / 2
	for i := range half {
		r.add(r.sumE[i], r.sumE[i], r.sumE[half+i])
	}
	sums := map[string][]vec{"lanesE": r.sumE[:half], "lanesD": r.sumD, "lanesA": r.sumA}
	for _, name := range []string{"lanesE", "lanesD", "lanesA"} {
		if sums[name] == nil {
			continue
		}
		lanes, other := r.load(name), r.GP64()
		for part, sum := range sums[name] {
			to := at(lanes, r.lane, 1, part*r.vectorBytes())
			if part > 0 && r.rotated {
				r.MOVQ(r.lane, other)
				r.XORQ(operand.Imm(32), other)
				to = at(lanes, other, 1, 0)
			}
			r.storeF(sum, to, nil)
		}
	}
	r.ORQ(operand.Imm(coef.LaneBytes-1), r.lane)
	r.INCQ(r.lane)
}

// scale turns exponentials into gradients.
func (b *builder) scale() {
	b.doc("turns exponentials into gradients: " + map[Form]string{Uniform: "e·f − smooth.", Dense: "e·f − smooth·a, where a = t·w + u."}[b.Form])
	e, dst := b.load("e"), b.load("dst")
	var t, u, w reg.Register
	if b.Form == Dense {
		t, u, w = b.load("t"), b.load("u"), b.load("w")
	}
	last, tl := b.last()
	end := b.GP64()
	b.MOVQ(last, end)
	b.ANDQ(operand.I32(int32(-2*b.width())), end)
	b.rows(func(_, slot, _ reg.GPVirtual) {
		f, smooth := b.broadcast(b.slot("f", slot)), b.broadcast(b.slot("smooth", slot))
		one := func(v vec, k reg.Register, i int, tl *tail) {
			if b.Form == Uniform {
				b.ps(b.VFMSUB213PS, b.VFMSUB213PD, smooth, f, v)
			} else {
				b.mul(v, v, f)
				b.negMulAddTo(v, smooth, b.coefficients(u, w, t, k, i, tl))
			}
			to := b.element(dst, k, i, b.Element.size())
			if b.Element > Float64 {
				b.prefetchSoon(to)
			}
			b.storeT(v, to, tl)
		}
		vector := func(k reg.Register, i int, tl *tail) vec { return b.loadF(b.element(e, k, i, b.f()), tl) }
		// The last vector overlaps the one before, and is loaded before that is overwritten.
		final, k := vector(last, 0, tl), b.GP64()
		b.XORQ(k, k)
		b.loop(k, end, 2*b.width(), func() {
			one(vector(k, 0, nil), k, 0, nil)
			one(vector(k, 1, nil), k, 1, nil)
		})
		b.loop(k, last, b.width(), func() { one(vector(k, 0, nil), k, 0, nil) })
		one(final, last, 0, tl)
	}, func() {
		b.ADDQ(b.arg("eStride"), e)
		b.ADDQ(b.arg("dstStride"), dst)
		if t != nil {
			b.ADDQ(b.arg("tStride"), t)
		}
	})
}
