package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels whose vector lanes are classes. Those of AVX2 want at least as many of them as a vector has lanes.

// rest is n modulo the power of two d.
func (b *builder) rest(d int) reg.GPVirtual {
	r := b.load("n")
	b.ANDQ(operand.Imm(uint64(d-1)), r)
	return r
}

// whole is n less that.
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
		t = b.tails(count, 1)[0]
		b.XORQ(zero, zero)
		b.SUBQ(width, at)
		b.CMOVQLT(zero, at)
		return at, t
	}
	b.SUBQ(operand.Imm(uint64(b.width())), at)
	return at, nil
}

// max: m = max x_k, and y = x_y − m.
func (b *builder) max() {
	const chains = 4
	b.doc("finds the maximum m of each row, and x_y − m, y being the label.")
	last, tl := b.last()
	x, end4 := b.load("x"), b.whole(chains*b.width())
	low := b.negInf()
	b.rows(func(slot reg.GPVirtual) {
		k := b.GP64()
		b.XORQ(k, k)
		var m [chains]vec
		for i := range m {
			m[i] = b.copy(low)
		}
		element := func(k reg.Register, i int) operand.Mem { return b.element(x, k, i, b.Element.size()) }
		b.loop(k, end4, chains*b.width(), func() {
			for i := range m {
				b.maxT(m[i], element(k, i))
			}
		})
		b.loop(k, last, b.width(), func() { b.maxT(m[0], element(k, 0)) })
		if tl == nil {
			b.maxT(m[1], element(last, 0))
		} else {
			b.ps(b.VMAXPS, b.VMAXPD, b.loadT(element(last, 0), tl), m[1], tl.k, m[1])
		}
		for step := 1; step < chains; step *= 2 {
			for i := 0; i < chains; i += 2 * step {
				b.maximum(m[i], m[i], m[i+step])
			}
		}
		pivot, label := b.horizontalMax(m[0]), b.GP64()
		b.toDouble(pivot)
		b.VMOVSD(pivot, b.slot("pivot", slot))
		b.MOVQ(slot, label)
		b.SUBQ(b.arg("first"), label)
		b.SHLQ(operand.Imm(2), label)
		b.ADDQ(b.arg("labels"), label)
		b.MOVLQSX(operand.Mem{Base: label}, label)
		y := b.scalarT(at(x, label, b.Element.size(), 0))
		b.toDouble(y)
		b.VSUBSD(pivot, y, y)
		b.VMOVSD(y, b.slot("y", slot))
	}, func() { b.ADDQ(b.arg("xStride"), x) })
}

func (b *builder) negInf() vec {
	if b.double() {
		return b.broadcast(b.data.fill(0xFFF0000000000000))
	}
	return b.broadcast(b.data.uint32(0xFF800000))
}

// maxT sets m = max(m, elements in memory).
func (b *builder) maxT(m vec, x operand.Mem) {
	if b.Element <= Float64 {
		b.maximum(m, m, x)
	} else {
		b.maximum(m, m, b.loadT(x, nil))
	}
}

// toDouble widens the first F of a register to float64.
func (b *builder) toDouble(x reg.Register) {
	if !b.double() {
		b.VCVTSS2SD(x, x, x)
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
func (b *builder) loadScalar(m operand.Mem, negative bool) vec {
	x := b.XMM()
	b.VMOVSD(m, x)
	if !b.double() {
		b.VCVTSD2SS(x, x, x)
	}
	if negative {
		return b.negBroadcast(x)
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
	b.doc("adds up e = exp(x−m) and, in lanes of their own,", map[Form]string{
		Uniform: "d = x−m.",
		Dense:   "a = t·w + u and a·d, where d = x−m.",
	}[b.Form])
	block := coef.Block / b.f()
	group := coef.ExpLanes / b.f() // elements that fill the lanes of Σe
	vectors := 2 * b.parts()
	var tails []*tail
	if b.ISA == AVX2 {
		tails = b.tails(b.rest(group), vectors)
	}
	exp := b.expConstants()
	x, e, t, u, w, lanes := b.sumArgs()

	b.rows(func(slot reg.GPVirtual) {
		pivot := b.loadScalar(b.slot("pivot", slot), true)
		k, lane := b.GP64(), b.GP64()
		b.XORQ(k, k)
		b.MOVQ(lanes, lane)
		blocks := b.label("block")
		b.Label(blocks)

		r := b.newRowSums(&exp, pivot, x, e, t, u, w)
		if e != nil && b.ISA == AVX2 {
			r.part, r.partV, r.partAt, r.partNumber = b.label("part"), b.vector(), b.GP64(), b.GP64()
		}
		limit, end := b.GP64(), b.load("n")
		b.LEAQ(operand.Mem{Base: k, Disp: block}, limit)
		b.ANDQ(operand.I32(-group), end)
		b.CMPQ(limit, end)
		b.CMOVQLT(limit, end)
		if b.ISA == AVX512 && b.Form == Uniform { // two groups at a time; a block has whole pairs
			pairs := b.GP64()
			b.MOVQ(end, pairs)
			b.ANDQ(operand.I32(-2*group), pairs)
			b.loop(k, pairs, 2*group, func() { r.vectors(k, 0, 2*vectors, nil, true) })
		}
		b.loop(k, end, group, func() { r.vectors(k, 0, vectors, nil, true) })
		stored := b.label("sums")
		b.CMPQ(k, limit)
		b.JGE(operand.LabelRef(stored)) // the block is full
		if b.ISA == AVX512 {            // few registers for masks
			tails = b.tails(b.rest(group), vectors)
		}
		next := b.GP64()
		for i := range vectors {
			b.LEAQ(operand.Mem{Base: k, Disp: i * b.width()}, next)
			b.CMPQ(next, b.arg("n"))
			b.JGE(operand.LabelRef(stored))
			r.vectors(k, i, 1, starting(tails, k)[i:i+1], false)
		}
		r.storeLast(stored)
		b.Label(stored)
		r.store(lane)
		b.MOVQ(limit, k)
		b.CMPQ(k, b.arg("n"))
		b.JLT(operand.LabelRef(blocks))
	}, func() { b.nextRow(x, e, t, lanes) })
}

// rowSums are the sums of a block of a row, in registers.
type rowSums struct {
	*builder
	constants        *expConstants
	pivot            vec
	x, e, t, u, w    reg.Register
	sumE, sumD, sumA []vec

	// Where the last vector's exponentials are stored, if there is such a place; and what, where and how many.
	part               string
	partV              vec
	partAt, partNumber reg.GPVirtual
}

func (b *builder) newRowSums(exp *expConstants, pivot vec, x, e, t, u, w reg.Register) *rowSums {
	r := &rowSums{builder: b, constants: exp, pivot: pivot, x: x, e: e, t: t, u: u, w: w}
	for i := range 2 * b.parts() {
		r.sumE = append(r.sumE, b.zero())
		if i < b.parts() {
			r.sumD = append(r.sumD, b.zero())
			if b.Form != Uniform {
				r.sumA = append(r.sumA, b.zero())
			}
		}
	}
	return r
}

// vectors adds n vectors to the sums: those from the i-th on from class k. They may have tails.
func (r *rowSums) vectors(k reg.Register, i, n int, tails []*tail, prefetch bool) {
	skew := 99 // as few as there are registers for
	switch {
	case r.ISA == AVX512 && r.Form == Uniform && !r.double():
		skew = 2
	case r.ISA == AVX512:
		skew = 6
	case r.Form == Uniform && r.double():
		skew = 16
	case r.Form == Uniform:
		skew = 8
	}
	r.weave(n, skew, func(j int) {
		var tl *tail
		if tails != nil {
			tl = tails[j]
		}
		r.one(k, i+j, tl, prefetch)
	})
}

// element is where vector i from class k on is, in memory of elements of a size.
func (b *builder) element(base, k reg.Register, i, size int) operand.Mem {
	m := operand.Mem{Base: base, Disp: i * b.width() * size}
	if k != nil {
		m.Index, m.Scale = k, uint8(size)
	}
	return m
}

// one adds a vector to the sums, and stores the exponentials if there is a place for them.
func (r *rowSums) one(k reg.Register, i int, tl *tail, prefetch bool) {
	x := r.element(r.x, k, i, r.Element.size())
	if prefetch && x.Disp%64 == 0 {
		far := x
		far.Disp += coef.Ahead
		r.PREFETCHT0(far)
	}
	var d vec
	if tl == nil && r.Element <= Float64 {
		d = r.vector()
		r.add(d, r.pivot, x)
	} else {
		d = r.loadT(x, tl)
		r.add(d, d, r.pivot)
	}
	sumD, sumE := r.sumD[i%len(r.sumD)], r.sumE[i%len(r.sumE)]
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
	v := r.exp(r.constants, d)
	r.addExisting(sumE, v, tl)
	if r.e == nil {
		return
	}
	e := r.element(r.e, k, i, r.f())
	if tl == nil || r.part == "" {
		r.storeF(v, e, tl)
		return
	}
	// All but the last vector are whole, and that one is stored elsewhere.
	whole, n := r.label("whole"), r.exist(tl)
	r.CMPQ(n, operand.Imm(uint64(r.width())))
	r.JGE(operand.LabelRef(whole))
	r.LEAQ(e, r.partAt)
	r.MOVQ(n, r.partNumber)
	r.VMOVAPS(v, r.partV)
	r.JMP(operand.LabelRef(r.part))
	r.Label(whole)
	r.storeF(v, e, nil)
}

// storeLast stores the exponentials of a row's last vector, if they are not stored yet.
func (r *rowSums) storeLast(stored string) {
	if r.part == "" {
		return
	}
	r.JMP(operand.LabelRef(stored))
	r.Label(r.part)
	r.storeSome(r.partV, r.partAt, r.partNumber, 0)
}

// store stores the lanes; lane is the offset of their place.
func (r *rowSums) store(lane reg.Register) {
	put := func(name string, sums []vec) {
		base := r.load(name)
		for i, v := range sums {
			r.storeF(v, at(base, lane, 1, i*r.vectorBytes()), nil)
		}
	}
	put("lanesD", r.sumD)
	if r.sumA != nil {
		put("lanesA", r.sumA)
	}
	half := len(r.sumE) / 2
	for i := range half {
		r.add(r.sumE[i], r.sumE[i], r.sumE[half+i])
	}
	put("lanesE", r.sumE[:half])
	r.ADDQ(operand.Imm(coef.Lanes), lane)
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
	b.rows(func(slot reg.GPVirtual) {
		f := b.loadScalar(b.slot("f", slot), false)
		g := b.XMM()
		b.VMOVSD(b.slot("g", slot), g)
		b.VMULSD(b.arg("epsG"), g, g)
		if !b.double() {
			b.VCVTSD2SS(g, g, g)
		}
		smooth := b.broadcast(g)
		one := func(v vec, k reg.Register, i int, tl *tail) {
			if b.Form == Uniform {
				b.ps(b.VFMSUB213PS, b.VFMSUB213PD, smooth, f, v)
			} else {
				b.mul(v, v, f)
				b.negMulAddTo(v, smooth, b.coefficients(u, w, t, k, i, tl))
			}
			b.storeT(v, b.element(dst, k, i, b.Element.size()), tl)
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

// sumExact is sum for a constant number of classes: every trip count is known, and no vector is without an element.
func (b *builder) sumExact() {
	const unrolled = 16 // vectors, at most, that are written out one by one
	b.doc("is sum for a constant number of classes.")
	width, per, block := b.width(), 2*b.parts(), coef.Block/b.f()
	vectors := (b.Classes + width - 1) / width
	var last *tail
	if n := b.Classes % width; n != 0 {
		last = b.exactTail(n)
	}
	lastOf := func(n int) []*tail {
		ts := make([]*tail, n)
		ts[n-1] = last
		return ts
	}
	exp := b.expConstants()
	x, e, t, u, w, lanes := b.sumArgs()
	b.rows(func(slot reg.GPVirtual) {
		pivot := b.loadScalar(b.slot("pivot", slot), true)
		lane, k, end := b.GP64(), b.GP64(), b.GP64()
		b.MOVQ(lanes, lane)
		b.XORQ(k, k)
		groups := func(sums *rowSums) { // until end
			b.loop(k, end, per*width, func() { sums.vectors(k, 0, per, nil, true) })
		}
		blocks := 0 // whole ones, in a loop
		if vectors > unrolled {
			blocks = b.Classes / block
		}
		if blocks > 0 {
			limit := b.GP64()
			b.MOVQ(operand.I32(int32(blocks*block)), limit)
			b.loop(k, limit, 0, func() {
				sums := b.newRowSums(&exp, pivot, x, e, t, u, w)
				b.LEAQ(operand.Mem{Base: k, Disp: block}, end)
				groups(sums)
				sums.store(lane)
			})
		}
		left := vectors - blocks*block/width
		if left == 0 {
			return
		}
		sums := b.newRowSums(&exp, pivot, x, e, t, u, w)
		if vectors <= unrolled {
			sums.vectors(nil, 0, left, lastOf(left), true)
		} else {
			done := (left - 1) / per * per
			b.MOVQ(operand.I32(int32(blocks*block+done*width)), end)
			groups(sums)
			sums.vectors(k, 0, left-done, lastOf(left-done), false)
		}
		sums.store(lane)
	}, func() { b.nextRow(x, e, t, lanes) })
}

// sumArgs loads what sums are made of, as far as the form has it; lanes is the offset of the row's first lanes.
func (b *builder) sumArgs() (x, e, t, u, w, lanes reg.Register) {
	x = b.load("x")
	if b.Op == SumExp {
		e = b.load("e")
	}
	if b.Form == Dense {
		t, u, w = b.load("t"), b.load("u"), b.load("w")
	}
	lanes = b.GP64()
	b.XORQ(lanes, lanes)
	return
}

// nextRow advances to the next row.
func (b *builder) nextRow(x, e, t, lanes reg.Register) {
	b.ADDQ(b.arg("xStride"), x)
	if e != nil {
		b.ADDQ(b.arg("eStride"), e)
	}
	if t != nil {
		b.ADDQ(b.arg("tStride"), t)
	}
	rowBlocks := b.load("rowBlocks")
	b.SHLQ(operand.Imm(6), rowBlocks)
	b.ADDQ(rowBlocks, lanes)
}

// negBroadcast spreads −x.
func (b *builder) negBroadcast(x reg.Register) vec {
	n := b.XMM()
	sign := b.data.uint32(1 << 31)
	if b.double() {
		sign = b.data.fill(1 << 63)
	}
	b.VXORPS(sign, x, n)
	return b.broadcast(n)
}
