package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels whose vector lanes are rows. They work on a copy of a chunk, in F and class after class; the number of rows is a
// multiple of 64 bytes of F.

// planeLanes is how many virtual lanes a sum has.
func (b *builder) planeLanes() int { return coef.Lanes / b.f() }

// positions runs the body for each vector of rows; slot is that of its first row.
func (b *builder) positions(body func(slot reg.GPVirtual), next func()) {
	slot, end := b.load("first"), b.load("first")
	b.ADDQ(b.arg("rows"), end)
	b.loop(slot, end, b.width(), func() {
		body(slot)
		next()
	})
}

// advance adds the size of a vector of elements.
func (b *builder) advance(p reg.Register, size int) {
	b.ADDQ(operand.Imm(uint64(b.width()*size)), p)
}

// doubles calls f for each vector's worth of float64 of v: one, or two where F is float32.
func (b *builder) doubles(v vec, f func(i int, v vec)) {
	if b.double() {
		f(0, v)
		return
	}
	for i := range 2 {
		w := b.vector()
		switch {
		case i == 0 && b.ISA == AVX512:
			b.VCVTPS2PD(v.AsY(), w)
		case i == 0:
			b.VCVTPS2PD(v.AsX(), w)
		case b.ISA == AVX512:
			y := b.YMM()
			b.VEXTRACTF64X4(operand.Imm(1), v, y)
			b.VCVTPS2PD(y, w)
		default:
			x := b.XMM()
			b.VEXTRACTF128(operand.Imm(1), v, x)
			b.VCVTPS2PD(x, w)
		}
		f(i, w)
	}
}

// slots is where the i-th vector of float64 of an argument lies.
func (b *builder) slots(name string, slot reg.Register, i int) operand.Mem {
	m := b.slot(name, slot)
	m.Disp += i * b.vectorBytes()
	return m
}

// put stores v as float64.
func (b *builder) put(v vec, name string, slot reg.Register) {
	b.doubles(v, func(i int, v vec) { b.VMOVUPD(v, b.slots(name, slot, i)) })
}

// get loads float64 and rounds them to F.
func (b *builder) get(name string, slot reg.Register) vec {
	var parts [2]vec
	for i := range parts {
		parts[i] = b.vector()
		b.VMOVUPD(b.slots(name, slot, i), parts[i])
		if b.double() {
			return parts[0]
		}
	}
	return b.narrow(parts[0], parts[1])
}

// labelVector loads the labels of a vector of rows, each as wide as F.
func (b *builder) labelVector(labels reg.Register) vec {
	v := b.vector()
	switch {
	case b.double():
		b.VPMOVSXDQ(operand.Mem{Base: labels}, v)
	case b.ISA == AVX512:
		b.VMOVDQU32(operand.Mem{Base: labels}, v)
	default:
		b.VMOVDQU(operand.Mem{Base: labels}, v)
	}
	return v
}

// spreadInt spreads an integer, as wide as F.
func (b *builder) spreadInt(r reg.GPVirtual) vec {
	v := b.vector()
	switch {
	case b.ISA == AVX512 && b.double():
		b.VPBROADCASTQ(r, v)
	case b.ISA == AVX512:
		b.VPBROADCASTD(r.As32(), v)
	case b.double():
		b.VMOVQ(r, v.AsX())
		b.VPBROADCASTQ(v.AsX(), v)
	default:
		b.VMOVD(r.As32(), v.AsX())
		b.VPBROADCASTD(v.AsX(), v)
	}
	return v
}

// equal is where two vectors of integers are equal. x may be memory.
func (b *builder) equal(x operand.Op, y vec) reg.Register {
	if b.ISA == AVX512 {
		k := b.K()
		if b.double() {
			b.VPCMPEQQ(x, y, k)
		} else {
			b.VPCMPEQD(x, y, k)
		}
		return k
	}
	m := b.vector()
	if b.double() {
		b.VPCMPEQQ(x, y, m)
	} else {
		b.VPCMPEQD(x, y, m)
	}
	return m
}

// blend sets v = x where the mask is set.
func (b *builder) blend(v vec, mask reg.Register, x vec) {
	switch {
	case b.ISA == AVX512:
		b.ps(b.VMOVAPS, b.VMOVAPD, x, mask, v)
	case b.double():
		b.VBLENDVPD(mask, x, v, v)
	default:
		b.VBLENDVPS(mask, x, v, v)
	}
}

// planeCoefficient is a class's coefficient for a vector of rows. The class is in k or constant.
func (b *builder) planeCoefficient(k reg.Register, number int, t operand.Mem) vec {
	scalar := func(name string) vec {
		if k == nil {
			return b.broadcast(operand.Mem{Base: b.load(name), Disp: number * b.f()})
		}
		return b.broadcast(at(b.load(name), k, b.f(), 0))
	}
	if b.Form == Classwise {
		return scalar("u")
	}
	a := b.loadT(t, nil)
	b.mulAdd(a, scalar("w"), scalar("u"))
	return a
}

// planeSum finds maxima and sums of vectors of rows.
func (b *builder) planeSum() {
	b.doc("finds, for a vector of rows at a time, the maximum m, Σe = Σ exp(x−m) and", map[Form]string{
		Uniform:   "Σd = Σ(x−m), and what the targets' classes have.",
		Classwise: "Σu·(x−m), and what the targets' classes have.",
		Dense:     "Σa and Σa·(x−m), where a = t·w + u.",
	}[b.Form])
	exp := b.expConstants()
	lanes := b.planeLanes()
	x, e, t, labels := b.planeArgs()
	b.positions(func(slot reg.GPVirtual) {
		// The maximum.
		b.prefetch(slot)
		m, k, p := b.negInf(), b.load("n"), b.GP64()
		b.MOVQ(x, p)
		loop := b.label("max")
		b.Label(loop)
		b.maxT(m, operand.Mem{Base: p}, nil)
		b.ADDQ(b.arg("planeStep"), p)
		b.DECQ(k)
		b.JNE(operand.LabelRef(loop))
		b.put(m, "pivot", slot)

		st := b.newPlaneState(&exp, m, labels)
		// Lane after lane.
		lane := b.GP64()
		b.XORQ(lane, lane)
		laneLoop := b.label("lane")
		b.Label(laneLoop)
		sum, second := b.zeroSums(), b.zero()
		pe, pt := b.GP64(), b.GP64()
		along := func(p, base reg.Register) {
			b.MOVQ(b.arg("planeStep"), p)
			b.IMULQ(lane, p)
			b.ADDQ(base, p)
		}
		along(p, x)
		if b.Op == PlaneSumExp {
			along(pe, e)
		}
		if b.Form == Dense {
			along(pt, t)
		}
		k = b.GP64()
		b.MOVQ(lane, k)
		steps, done := b.label("step"), b.label("summed")
		b.Label(steps)
		for i := range 2 {
			one := st.class(operand.Mem{Base: p}, operand.Mem{Base: pe}, operand.Mem{Base: pt}, k, 0)
			to := []vec{sum.e, second}[i]
			b.add(to, to, one.e)
			b.addSums(sum, one)
			b.ADDQ(operand.Imm(uint64(lanes)), k)
			b.CMPQ(k, b.arg("n"))
			b.JGE(operand.LabelRef(done))
			b.ADDQ(b.arg("hop"), p)
			if b.Op == PlaneSumExp {
				b.ADDQ(b.arg("hop"), pe)
			}
			if b.Form == Dense {
				b.ADDQ(b.arg("hop"), pt)
			}
		}
		b.JMP(operand.LabelRef(steps))
		b.Label(done)
		b.add(sum.e, sum.e, second)
		store := func(v vec, name string) {
			b.storeF(v, at(b.load(name), b.scaled(lane, b.vectorBytes()), 1, 0), nil)
		}
		store(sum.e, "lanesE")
		store(sum.d, "lanesD")
		if b.Form == Dense {
			store(sum.a, "lanesA")
		}
		b.INCQ(lane)
		b.CMPQ(lane, operand.Imm(uint64(lanes)))
		last := b.label("lanes")
		b.JGE(operand.LabelRef(last))
		b.CMPQ(lane, b.arg("n"))
		b.JLT(operand.LabelRef(laneLoop))
		b.Label(last)

		// lane is how many there are. Σe − 1; of two classes, the smaller exponential, the other being 1.
		s := b.tree(lane, "lanesE")
		two, end := b.label("two"), b.label("sum")
		rest := b.load("lanesE")
		b.CMPQ(b.arg("n"), operand.Imm(2))
		b.JE(operand.LabelRef(two))
		b.doubles(s, func(i int, v vec) {
			bias := b.vector()
			b.VBROADCASTSD(b.data.float64(-1), bias)
			b.VADDPD(bias, v, v)
			b.VMOVUPD(v, b.slots("rest", slot, i))
		})
		b.JMP(operand.LabelRef(end))
		b.Label(two)
		b.put(b.copy(operand.Mem{Base: rest, Disp: 2 * b.vectorBytes()}), "rest", slot)
		b.Label(end)
		b.put(b.tree(lane, "lanesD"), "d", slot)
		if b.Form == Dense {
			b.put(b.tree(lane, "lanesA"), "main", slot)
		}
		st.putTarget(slot)
	}, func() { b.nextPositions(x, e, t, labels) })
}

// planeArgs loads what sums over planes are made of, as far as the form has it.
func (b *builder) planeArgs() (x, e, t, labels reg.GPVirtual) {
	x = b.load("x")
	if b.Op == PlaneSumExp {
		e = b.load("e")
	}
	if b.Form == Dense {
		t = b.load("t")
	} else {
		labels = b.load("labels")
	}
	return
}

// nextPositions advances to the next vector of rows.
func (b *builder) nextPositions(x, e, t, labels reg.GPVirtual) {
	b.advance(x, b.Element.size())
	if e != nil {
		b.advance(e, b.f())
	}
	if t != nil {
		b.advance(t, b.Element.size())
	} else {
		b.advance(labels, 4)
	}
}

// prefetch prefetches a vector of rows of the next chunk's logits and, with a gradient, of this chunk's gradient, unless next
// says that there is nothing to. Far apart as the classes are, the CPU would not do so by itself in time.
func (b *builder) prefetch(slot reg.Register) {
	next, left, loop, done := b.load("next"), b.load("n"), b.label("fetch"), b.label("fetched")
	b.CMPQ(next, b.arg("x"))
	b.JEQ(operand.LabelRef(done))
	bytes := b.GP64()
	b.MOVQ(slot, bytes)
	b.SUBQ(b.arg("first"), bytes)
	b.SHLQ(operand.Imm(map[int]uint64{4: 2, 8: 3}[b.f()]), bytes)
	b.ADDQ(bytes, next)
	dst := bytes
	b.ADDQ(b.arg("dst"), dst)
	b.Label(loop)
	b.PREFETCHT0(operand.Mem{Base: next})
	b.ADDQ(b.arg("xStep"), next)
	if b.Op == PlaneSumExp {
		b.PREFETCHT0(operand.Mem{Base: dst})
		b.ADDQ(b.arg("dstStep"), dst)
	}
	b.DECQ(left)
	b.JNE(operand.LabelRef(loop))
	b.Label(done)
}

// planeState is what a vector of rows has in registers.
type planeState struct {
	*builder
	constants                *expConstants
	inMemory                 bool // targetX and targetE are
	m                        vec
	target, targetX, targetE vec
}

func (b *builder) newPlaneState(exp *expConstants, m vec, labels reg.Register) *planeState {
	st := &planeState{builder: b, constants: exp, m: m, inMemory: b.Classes != 0 && b.ISA == AVX2 && b.Form == Classwise}
	if st.inMemory {
		st.target = b.labelVector(labels)
		for i := range 2 {
			b.storeF(b.zero(), st.waiting(i), nil)
		}
	} else if b.Form != Dense {
		st.target, st.targetX = b.labelVector(labels), b.zero()
		if b.Op == PlaneSumExp {
			st.targetE = b.zero()
		}
	}
	return st
}

// class computes a class, whose number is in k or constant: e, d or a·d, and a.
func (st *planeState) class(x, e, t operand.Mem, k reg.Register, number int) (s sums) {
	here := func() reg.Register {
		if k != nil {
			return st.equal(st.target, st.spreadInt(k.(reg.GPVirtual)))
		}
		return st.equalTo(st.target, number)
	}
	v := st.loadT(x, nil)
	var mask reg.Register
	if st.Form != Dense {
		mask = here()
		st.blendTarget(&st.targetX, 0, mask, v)
	}
	d := v
	st.sub(d, v, st.m)
	if s.d = d; st.Form != Uniform {
		a := st.planeCoefficient(k, number, t)
		s.d = st.vector()
		st.mul(s.d, a, d)
		st.keepIf(s.d, notEqual, a, st.zero()) // 0·(−Inf) counts as 0
		if st.Form == Dense {
			s.a = a
		}
	}
	s.e = st.exp(st.constants, d)
	if st.Op == PlaneSumExp {
		st.storeF(s.e, e, nil)
		if st.Form != Dense {
			if st.ISA == AVX2 { // registers
				mask = here()
			}
			st.blendTarget(&st.targetE, 1, mask, s.e)
		}
	}
	return s
}

// blendTarget takes x over for rows whose target is here. Where there are too few registers, what is taken waits in memory.
func (st *planeState) blendTarget(target *vec, i int, mask reg.Register, x vec) {
	if !st.inMemory {
		st.blend(*target, mask, x)
		return
	}
	v := st.copy(st.waiting(i))
	st.blend(v, mask, x)
	st.storeF(v, st.waiting(i), nil)
}

// waiting is the memory for that, in the upper half of the lanes.
func (st *planeState) waiting(i int) operand.Mem {
	return operand.Mem{Base: st.load("lanesE"), Disp: 512 + i*st.vectorBytes()}
}

// sums are sums under way: Σe, Σd or Σa·d, and for distributions Σa.
type sums struct{ e, d, a vec }

func (b *builder) zeroSums() (s sums) {
	s.e, s.d = b.zero(), b.zero()
	if b.Form == Dense {
		s.a = b.zero()
	}
	return s
}

// addSums adds y's to those of s, but not of exponentials.
func (b *builder) addSums(s, y sums) {
	b.add(s.d, s.d, y.d)
	if s.a != nil {
		b.add(s.a, s.a, y.a)
	}
}

// equalTo is where integers equal a constant.
func (b *builder) equalTo(x vec, number int) reg.Register {
	c := b.data.uint32(uint32(number))
	if b.double() {
		c = b.data.fill(uint64(number))
	}
	return b.equal(c, x)
}

// putTarget stores what the targets' classes have.
func (st *planeState) putTarget(slot reg.Register) {
	if st.Form == Dense {
		return
	}
	if st.inMemory {
		st.targetX, st.targetE = st.copy(st.waiting(0)), st.copy(st.waiting(1))
	}
	st.doubles(st.targetX, func(i int, v vec) {
		st.VSUBPD(st.slots("pivot", slot, i), v, v)
		st.VMOVUPD(v, st.slots("y", slot, i))
	})
	if st.Op == PlaneSumExp {
		st.put(st.targetE, "ey", slot)
	}
}

// scaled is a register times a power of two.
func (b *builder) scaled(r reg.Register, by int) reg.GPVirtual {
	s := b.GP64()
	b.MOVQ(r, s)
	shift := 0
	for 1<<shift < by {
		shift++
	}
	b.SHLQ(operand.Imm(uint64(shift)), s)
	return s
}

// tree adds up count vectors in memory by adjacent pairs. Of the two exponentials of two classes it also leaves the smaller
// one, or a NaN if one of them is, behind their sum.
func (b *builder) tree(count reg.Register, lanes string) vec {
	n, base := b.GP64(), b.load(lanes)
	b.MOVQ(count, n)
	level, pairs, done := b.label("level"), b.label("pairs"), b.label("tree")
	if lanes == "lanesE" {
		b.smaller(base)
	}
	b.Label(level)
	b.CMPQ(n, operand.Imm(1))
	b.JE(operand.LabelRef(done))
	from, to, i := b.GP64(), b.GP64(), b.GP64()
	b.MOVQ(base, from)
	b.MOVQ(base, to)
	b.MOVQ(n, i)
	b.SHRQ(operand.Imm(1), i)
	b.Label(pairs)
	v := b.copy(operand.Mem{Base: from})
	b.add(v, v, operand.Mem{Base: from, Disp: b.vectorBytes()})
	b.storeF(v, operand.Mem{Base: to}, nil)
	b.ADDQ(operand.Imm(uint64(2*b.vectorBytes())), from)
	b.ADDQ(operand.Imm(uint64(b.vectorBytes())), to)
	b.DECQ(i)
	b.JNE(operand.LabelRef(pairs))
	b.storeF(b.copy(operand.Mem{Base: from}), operand.Mem{Base: to}, nil) // the last of an odd number
	b.INCQ(n)
	b.SHRQ(operand.Imm(1), n)
	b.JMP(operand.LabelRef(level))
	b.Label(done)
	return b.copy(operand.Mem{Base: base})
}

// smaller writes the smaller of the first two vectors behind them, if these are all.
func (b *builder) smaller(base reg.Register) {
	skip := b.label("more")
	b.CMPQ(b.arg("n"), operand.Imm(2))
	b.JNE(operand.LabelRef(skip))
	v, s := b.copy(operand.Mem{Base: base}), b.vector()
	b.ps(b.VMINPS, b.VMINPD, operand.Mem{Base: base, Disp: b.vectorBytes()}, v, s)
	b.mul(v, v, b.zero()) // 0, or NaN
	b.add(s, s, v)
	b.storeF(s, operand.Mem{Base: base, Disp: 2 * b.vectorBytes()}, nil)
	b.Label(skip)
}

// planeScale turns exponentials into gradients, where they are.
func (b *builder) planeScale() {
	b.doc("turns exponentials into gradients where they are, for a vector of rows at a time: "+map[bool]string{true: "e·f − smooth,", false: "e·f − smooth·a,"}[b.Form == Uniform],
		"but gy for the target's class.")
	e := b.load("e")
	var t, labels reg.GPVirtual
	if b.Form == Dense {
		t = b.load("t")
	} else {
		labels = b.load("labels")
	}
	b.positions(func(slot reg.GPVirtual) {
		f := b.get("f", slot)
		epsG := b.vector()
		b.VBROADCASTSD(b.arg("epsG"), epsG)
		smooth := b.scaledFactor(slot, epsG)
		var target, gy vec
		if b.Form != Dense {
			target, gy = b.labelVector(labels), b.get("gy", slot)
		}
		k, pe, pt := b.GP64(), b.GP64(), b.GP64()
		b.XORQ(k, k)
		b.MOVQ(e, pe)
		if b.Form == Dense {
			b.MOVQ(t, pt)
		}
		loop := b.label("class")
		b.Label(loop)
		v := b.loadF(operand.Mem{Base: pe}, nil)
		if b.Form == Uniform {
			b.ps(b.VFMSUB213PS, b.VFMSUB213PD, smooth, f, v)
		} else {
			b.mul(v, v, f)
			b.negMulAddTo(v, smooth, b.planeCoefficient(k, 0, operand.Mem{Base: pt}))
		}
		if b.Form != Dense {
			b.blend(v, b.equal(target, b.spreadInt(k)), gy)
		}
		b.storeF(v, operand.Mem{Base: pe}, nil)
		b.ADDQ(b.arg("planeStep"), pe)
		if b.Form == Dense {
			b.ADDQ(b.arg("planeStep"), pt)
		}
		b.INCQ(k)
		b.CMPQ(k, b.arg("n"))
		b.JLT(operand.LabelRef(loop))
	}, func() {
		b.advance(e, b.f())
		if b.Form == Dense {
			b.advance(t, b.Element.size())
		} else {
			b.advance(labels, 4)
		}
	})
}

// scaledFactor is g·epsG, rounded to F.
func (b *builder) scaledFactor(slot reg.Register, epsG vec) vec {
	n := 2
	if b.double() {
		n = 1
	}
	var parts []vec
	for i := range n {
		v := b.vector()
		b.VMULPD(b.slots("g", slot, i), epsG, v)
		parts = append(parts, v)
	}
	if b.double() {
		return parts[0]
	}
	return b.narrow(parts[0], parts[1])
}

// narrow rounds two vectors of float64 to one of float32.
func (b *builder) narrow(low, high vec) vec {
	v := b.vector()
	if b.ISA == AVX512 {
		l, h := b.YMM(), b.YMM()
		b.VCVTPD2PS(low, l)
		b.VCVTPD2PS(high, h)
		b.VINSERTF64X4(operand.Imm(1), h, l.AsZ(), v)
		return v
	}
	l, h := b.XMM(), b.XMM()
	b.VCVTPD2PSY(low, l)
	b.VCVTPD2PSY(high, h)
	b.VINSERTF128(operand.Imm(1), h, l.AsY(), v)
	return v
}
