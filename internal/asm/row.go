package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels whose vector lanes are classes.

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

// max: pivot = max x_k.
func (b *builder) max() {
	const chains = 4
	b.doc("finds the maximum of each row: pivot = max x_k.")
	tail := b.tails(b.rest(b.width()), 1)[0]
	x := b.load("x")
	end4, end := b.whole(chains*b.width()), b.whole(b.width())
	low := b.negInf()
	b.rows(func(slot reg.GPVirtual) {
		k := b.GP64()
		b.XORQ(k, k)
		var m [chains]vec
		for i := range m {
			m[i] = b.copy(low)
		}
		element := func(i int) operand.Mem {
			return at(x, k, b.Element.size(), i*b.width()*b.Element.size())
		}
		b.loop(k, end4, chains*b.width(), func() {
			for i := range m {
				b.maxT(m[i], element(i))
			}
		})
		b.loop(k, end, b.width(), func() { b.maxT(m[0], element(0)) })
		done := b.label("whole")
		b.CMPQ(k, b.arg("n"))
		b.JGE(operand.LabelRef(done))
		tail.index = k
		b.maxTail(m[0], element(0), low, tail)
		b.Label(done)
		for step := 1; step < chains; step *= 2 {
			for i := 0; i < chains; i += 2 * step {
				b.maximum(m[i], m[i], m[i+step])
			}
		}
		b.storeDouble(b.horizontalMax(m[0]), b.slot("pivot", slot))
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

// maxTail sets m = max(m, those elements in memory that exist); low is −Inf.
func (b *builder) maxTail(m vec, x operand.Mem, low vec, t *tail) {
	v := b.loadT(x, t)
	if b.ISA == AVX512 {
		b.ps(b.VMAXPS, b.VMAXPD, v, m, t.k, m)
		return
	}
	mask := b.copy(t.mask)
	if b.double() {
		b.VBLENDVPD(mask, v, low, v)
	} else {
		b.VBLENDVPS(mask, v, low, v)
	}
	b.maximum(m, m, v)
}

// storeDouble stores the first F of a register as a float64.
func (b *builder) storeDouble(x reg.Register, m operand.Mem) {
	if !b.double() {
		b.VCVTSS2SD(x, x, x)
	}
	b.VMOVSD(x, m)
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
	group := coef.ExpLanes / b.f() // elements that fill the lanes of Σe
	vectors := 2 * b.parts()
	block := coef.Block / b.f()
	tails := b.tails(b.rest(group), vectors)
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
		b.loop(k, end, group, func() {
			r.vectors(k, 0, vectors, nil, true)
		})
		stored := b.label("sums")
		b.CMPQ(k, limit)
		b.JGE(operand.LabelRef(stored)) // the block is full
		next := b.GP64()
		for i := range vectors {
			b.LEAQ(operand.Mem{Base: k, Disp: i * b.width()}, next)
			b.CMPQ(next, b.arg("n"))
			b.JGE(operand.LabelRef(stored))
			r.vectors(k, i, 1, starting(tails, k)[i], false)
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
	exp              *expConstants
	pivot            vec
	x, e, t, u, w    reg.Register
	sumE, sumD, sumA []vec

	// Where the last vector's exponentials are stored, if there is such a place; and what, where and how many.
	part               string
	partV              vec
	partAt, partNumber reg.GPVirtual
}

func (b *builder) newRowSums(exp *expConstants, pivot vec, x, e, t, u, w reg.Register) *rowSums {
	r := &rowSums{builder: b, exp: exp, pivot: pivot, x: x, e: e, t: t, u: u, w: w}
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

// vectors adds n vectors to the sums: those from the i-th on from class k. The last of them may have a tail. Each is half
// computed before the one ahead of it is ended.
func (r *rowSums) vectors(k reg.Register, i, n int, tl *tail, prefetch bool) {
	ahead := 1
	if r.ISA == AVX2 && r.Form != Uniform {
		ahead = 0 // registers
	}
	half := make([]halfway, n)
	tailOf := func(j int) *tail {
		if j == n-1 {
			return tl
		}
		return nil
	}
	for j := range n + ahead {
		if j < n {
			half[j] = r.first(k, i+j, tailOf(j), prefetch)
		}
		if j >= ahead {
			r.second(k, i+j-ahead, tailOf(j-ahead), half[j-ahead])
		}
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

func (r *rowSums) first(k reg.Register, i int, tl *tail, prefetch bool) halfway {
	x := r.element(r.x, k, i, r.Element.size())
	if prefetch && x.Disp%64 == 0 {
		far := x
		far.Disp += coef.Ahead
		r.PREFETCHT0(far)
	}
	d := r.loadT(x, tl)
	r.add(d, d, r.pivot)
	if r.Form == Uniform {
		r.keep(d, tl) // otherwise the coefficient is 0
	}
	j := i % r.parts()
	if r.Form == Uniform {
		r.add(r.sumD[j], r.sumD[j], d)
	} else {
		a := r.coefficients(r.u, r.w, r.t, k, i, tl)
		r.add(r.sumA[j], r.sumA[j], a)
		ad := r.vector()
		r.mul(ad, a, d)
		r.keepIf(ad, notEqual, a, r.zero()) // 0·(−Inf) counts as 0
		r.add(r.sumD[j], r.sumD[j], ad)
	}
	return r.reduce(r.exp, d)
}

func (r *rowSums) second(k reg.Register, i int, tl *tail, h halfway) {
	v := r.expand(r.exp, h)
	r.keep(v, tl)
	j := i % len(r.sumE)
	r.add(r.sumE[j], r.sumE[j], v)
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

// store stores the lanes; lane is the offset of those of Σd.
func (r *rowSums) store(lane reg.Register) {
	put := func(name string, sums []vec, scale int) {
		base := r.load(name)
		for i, v := range sums {
			r.storeF(v, at(base, lane, scale, i*r.vectorBytes()), nil)
		}
	}
	put("lanesD", r.sumD, 1)
	if r.sumA != nil {
		put("lanesA", r.sumA, 1)
	}
	put("lanesE", r.sumE, coef.ExpLanes/coef.Lanes)
	r.ADDQ(operand.Imm(coef.Lanes), lane)
}

// scale turns exponentials into gradients.
func (b *builder) scale() {
	b.doc("turns exponentials into gradients: " + map[Form]string{Uniform: "e·f − smooth.", Dense: "e·f − smooth·a, where a = t·w + u."}[b.Form])
	const vectors = 2
	tails := b.tails(b.rest(vectors*b.width()), vectors)
	e, dst := b.load("e"), b.load("dst")
	var t, u, w reg.Register
	if b.Form == Dense {
		t, u, w = b.load("t"), b.load("u"), b.load("w")
	}
	end := b.whole(vectors * b.width())
	b.rows(func(slot reg.GPVirtual) {
		f := b.loadScalar(b.slot("f", slot), false)
		g := b.XMM()
		b.VMOVSD(b.slot("g", slot), g)
		b.VMULSD(b.arg("epsG"), g, g)
		if !b.double() {
			b.VCVTSD2SS(g, g, g)
		}
		smooth := b.broadcast(g)
		k := b.GP64()
		b.XORQ(k, k)
		one := func(i int, tl *tail) {
			v := b.loadF(at(e, k, b.f(), i*b.width()*b.f()), tl)
			if b.Form == Uniform {
				b.ps(b.VFMSUB213PS, b.VFMSUB213PD, smooth, f, v)
			} else {
				b.mul(v, v, f)
				b.negMulAddTo(v, smooth, b.coefficients(u, w, t, k, i, tl))
			}
			b.storeT(v, at(dst, k, b.Element.size(), i*b.width()*b.Element.size()), tl)
		}
		b.loop(k, end, vectors*b.width(), func() {
			for i := range vectors {
				one(i, nil)
			}
		})
		done, next := b.label("whole"), b.GP64()
		for i := range vectors {
			b.LEAQ(operand.Mem{Base: k, Disp: i * b.width()}, next)
			b.CMPQ(next, b.arg("n"))
			b.JGE(operand.LabelRef(done))
			one(i, starting(tails, k)[i])
		}
		b.Label(done)
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
	exp := b.expConstants()
	x, e, t, u, w, lanes := b.sumArgs()
	b.rows(func(slot reg.GPVirtual) {
		pivot := b.loadScalar(b.slot("pivot", slot), true)
		lane, k, end := b.GP64(), b.GP64(), b.GP64()
		b.MOVQ(lanes, lane)
		b.XORQ(k, k)
		groups := func(until func(), sums *rowSums) {
			until()
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
				groups(func() { b.LEAQ(operand.Mem{Base: k, Disp: block}, end) }, sums)
				sums.store(lane)
			})
		}
		left := vectors - blocks*block/width
		if left == 0 {
			return
		}
		sums := b.newRowSums(&exp, pivot, x, e, t, u, w)
		if vectors <= unrolled {
			sums.vectors(nil, 0, left, last, true)
		} else {
			done := (left - 1) / per * per
			groups(func() { b.MOVQ(operand.I32(int32(blocks*block+done*width)), end) }, sums)
			sums.vectors(k, 0, left-done, last, false)
		}
		sums.store(lane)
	}, func() { b.nextRow(x, e, t, lanes) })
}

// sumArgs loads what sums are made of, as far as the form has it; lanes is the offset of the row's first lanes of Σd.
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
