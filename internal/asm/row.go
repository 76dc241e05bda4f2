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
		v := b.loadT(element(0), tail)
		if b.ISA == AVX512 {
			b.ps(b.VMAXPS, b.VMAXPD, v, m[0], tail.k, m[0])
		} else {
			mask := b.copy(tail.mask)
			if b.double() {
				b.VBLENDVPD(mask, v, low, v)
			} else {
				b.VBLENDVPS(mask, v, low, v)
			}
			b.maximum(m[0], m[0], v)
		}
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
		sign := b.data.uint32(1 << 31)
		if b.double() {
			sign = b.data.fill(1 << 63)
		}
		b.VXORPS(sign, x, x)
	}
	return b.broadcast(x)
}

// coefficients loads the coefficients of a vector of classes.
func (b *builder) coefficients(u, w, t reg.Register, k reg.Register, i int, tl *tail) vec {
	mem := func(base reg.Register) operand.Mem { return at(base, k, b.f(), i*b.width()*b.f()) }
	switch b.Form {
	case Classwise:
		return b.loadF(mem(u), tl)
	case Dense:
		a := b.loadT(at(t, k, b.Element.size(), i*b.width()*b.Element.size()), tl)
		b.mulAdd(a, b.loadF(mem(w), tl), b.loadF(mem(u), tl))
		return a
	}
	return nil
}

// sum adds up e = exp(x−m), d = x−m and a, each in lanes.
func (b *builder) sum() {
	b.doc("adds up e = exp(x−m) and, in lanes of their own,", map[Form]string{
		Uniform:   "d = x−m.",
		Classwise: "a = u and a·d, where d = x−m.",
		Dense:     "a = t·w + u and a·d, where d = x−m.",
	}[b.Form])
	group := coef.ExpLanes / b.f() // elements that fill the lanes of Σe
	vectors := 2 * b.parts()
	block := coef.Block / b.f()
	tails := b.tails(b.rest(group), vectors)
	exp := b.expConstants()
	x := b.load("x")
	var e, t, u, w reg.Register
	if b.Op == SumExp {
		e = b.load("e")
	}
	if b.Form != Uniform {
		u = b.load("u")
	}
	if b.Form == Dense {
		t, w = b.load("t"), b.load("w")
	}
	lanes := b.GP64() // of the row's block: the offset of Σd
	b.XORQ(lanes, lanes)

	b.rows(func(slot reg.GPVirtual) {
		pivot := b.loadScalar(b.slot("pivot", slot), true)
		k, lane := b.GP64(), b.GP64()
		b.XORQ(k, k)
		b.MOVQ(lanes, lane)
		blocks := b.label("block")
		b.Label(blocks)

		var sumE, sumD, sumA []vec
		for i := range vectors {
			sumE = append(sumE, b.zero())
			if i < vectors/2 {
				sumD = append(sumD, b.zero())
				if b.Form != Uniform {
					sumA = append(sumA, b.zero())
				}
			}
		}
		half := make([]halfway, vectors)
		first := func(i int, tl *tail) {
			if line := i * b.width() * b.Element.size(); tl == nil && line%64 == 0 {
				b.PREFETCHT0(at(x, k, b.Element.size(), line+coef.Ahead))
			}
			d := b.loadT(at(x, k, b.Element.size(), i*b.width()*b.Element.size()), tl)
			b.add(d, d, pivot)
			b.keep(d, tl)
			j := i % b.parts()
			if b.Form == Uniform {
				b.add(sumD[j], sumD[j], d)
			} else {
				a := b.coefficients(u, w, t, k, i, tl)
				b.keep(a, tl)
				b.add(sumA[j], sumA[j], a)
				ad := b.vector()
				b.mul(ad, a, d)
				b.keepIf(ad, notEqual, a, b.zero()) // 0·(−Inf) counts as 0
				b.add(sumD[j], sumD[j], ad)
			}
			half[i] = b.reduce(&exp, d)
		}
		second := func(i int, tl *tail) {
			v := b.expand(&exp, half[i])
			b.keep(v, tl)
			b.add(sumE[i], sumE[i], v)
			if b.Op == SumExp {
				b.storeF(v, at(e, k, b.f(), i*b.width()*b.f()), tl)
			}
		}
		limit, end := b.GP64(), b.load("n")
		b.LEAQ(operand.Mem{Base: k, Disp: block}, limit)
		b.ANDQ(operand.I32(-group), end)
		b.CMPQ(limit, end)
		b.CMOVQLT(limit, end)
		b.loop(k, end, group, func() {
			ahead := 1
			if b.ISA == AVX2 && b.Form != Uniform {
				ahead = 0 // registers
			}
			for i := range vectors + ahead {
				if i < vectors {
					first(i, nil)
				}
				if i >= ahead {
					second(i-ahead, nil)
				}
			}
		})
		stored := b.label("sums")
		b.CMPQ(k, limit)
		b.JGE(operand.LabelRef(stored)) // the block is full
		next := b.GP64()
		for i := range vectors {
			b.LEAQ(operand.Mem{Base: k, Disp: i * b.width()}, next)
			b.CMPQ(next, b.arg("n"))
			b.JGE(operand.LabelRef(stored))
			first(i, starting(tails, k)[i])
			second(i, tails[i])
		}
		b.Label(stored)
		base := b.load("lanesD")
		for i, v := range sumD {
			b.storeF(v, at(base, lane, 1, i*b.vectorBytes()), nil)
		}
		if sumA != nil {
			base = b.load("lanesA")
			for i, v := range sumA {
				b.storeF(v, at(base, lane, 1, i*b.vectorBytes()), nil)
			}
		}
		base = b.load("lanesE")
		for i, v := range sumE {
			b.storeF(v, at(base, lane, coef.ExpLanes/coef.Lanes, i*b.vectorBytes()), nil)
		}
		b.ADDQ(operand.Imm(coef.Lanes), lane)
		b.MOVQ(limit, k)
		b.CMPQ(k, b.arg("n"))
		b.JLT(operand.LabelRef(blocks))
	}, func() {
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
	})
}

// scale turns exponentials into gradients.
func (b *builder) scale() {
	b.doc("turns exponentials into gradients: "+map[bool]string{true: "e·f − smooth.", false: "e·f − smooth·a,"}[b.Form == Uniform],
		map[Form]string{Uniform: "", Classwise: "where a = u.", Dense: "where a = t·w + u."}[b.Form])
	const vectors = 2
	tails := b.tails(b.rest(vectors*b.width()), vectors)
	e, dst := b.load("e"), b.load("dst")
	var t, u, w reg.Register
	if b.Form != Uniform {
		u = b.load("u")
	}
	if b.Form == Dense {
		t, w = b.load("t"), b.load("w")
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
