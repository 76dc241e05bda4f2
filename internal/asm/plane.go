package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels whose vector lanes are rows. They work on a copy of a chunk, in F and class after class; the number of rows is a
// multiple of 64 bytes of F.

// lanes is how many virtual lanes a sum has, planeStep how many bytes it is from a class to the next.
func (b *builder) lanes() int     { return coef.LaneBytes / b.f() }
func (b *builder) planeStep() int { return PlaneSlots * b.f() }

// positions runs the body for so many rows after others; slot is that of the first. The addresses of their labels and of their
// places in planes, as far as there are such, go on by as many.
func (b *builder) positions(step int, labels reg.GPVirtual, planes []reg.GPVirtual, body func(slot reg.GPVirtual)) {
	slot, end := b.load("first"), b.load("first")
	b.ADDQ(b.arg("rows"), end)
	b.repeat(slot, end, step, func() {
		body(slot)
		for _, p := range planes {
			if p != nil {
				b.ADDQ(operand.Imm(uint64(step*b.f())), p)
			}
		}
		if labels != nil {
			b.ADDQ(operand.Imm(uint64(step*4)), labels)
		}
	})
}

// put stores v, and get loads it.
func (b *builder) put(v vec, name string, slot reg.Register) { b.storeF(v, b.slot(name, slot), nil) }
func (b *builder) get(name string, slot reg.Register) vec    { return b.loadF(b.slot(name, slot), nil) }

// labelVector loads the labels of a vector of rows, each as wide as F.
func (b *builder) labelVector(labels operand.Mem) vec {
	v := b.vector()
	switch {
	case b.double():
		b.VPMOVSXDQ(labels, v)
	case b.ISA == AVX512:
		b.VMOVDQU32(labels, v)
	default:
		b.VMOVDQU(labels, v)
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
	m := b.newMask()
	b.ps(b.VPCMPEQD, b.VPCMPEQQ, x, y, m)
	return m
}

// blend sets v = x where the mask is set. x may be memory.
func (b *builder) blend(v vec, mask reg.Register, x operand.Op) {
	switch {
	case b.ISA == AVX512:
		b.ps(b.VMOVUPS, b.VMOVUPD, x, mask, v)
	case b.double():
		b.VBLENDVPD(mask, x, v, v)
	default:
		b.VBLENDVPS(mask, x, v, v)
	}
}

// planeCoefficient is the coefficient of class number, or k + number, for a vector of rows.
func (b *builder) planeCoefficient(k reg.Register, number int, t operand.Mem) vec {
	scalar := func(name string) vec {
		m := operand.Mem{Base: b.load(name), Disp: number * b.f()}
		if k != nil {
			m.Index, m.Scale = k, uint8(b.f())
		}
		return b.broadcast(m)
	}
	if b.Form == Classwise {
		return scalar("u")
	}
	a := b.loadT(t, nil)
	b.mulAdd(a, scalar("w"), scalar("u"))
	return a
}

// Sums over planes lie behind lanesE, with a vector for each lane: Σe of even blocks of classes, of odd ones, Σd or Σa·d, and Σa.
const (
	evenE = iota
	oddE
	sumD
	sumA
)

// laneAt is where a lane of a sum is, or of those behind it.
func (b *builder) laneAt(base reg.Register, sum, lane int) operand.Mem {
	return operand.Mem{Base: base, Disp: sum*b.lanesBytes() + lane*b.vectorBytes()}
}

// lanesBytes is what the lanes of a sum take.
func (b *builder) lanesBytes() int { return b.lanes() * b.vectorBytes() }

// putMaxima stores the maxima of a vector of rows, negative, in so many vectors behind a slot. It destroys them.
func (b *builder) putMaxima(m vec, slot reg.Register, vectors int) {
	b.ps(b.VXORPS, b.VXORPD, b.sign(), m, m)
	b.storeF(m, after(b.slot("minus", slot), vectors*b.vectorBytes()), nil)
}

// lanesSchedule is the order of the instructions of four classes of float32 with AVX2, for uniform smoothing, found like schedules: first
// the chains of instructions from differences to sums of exponentials, then what else there is to do for the classes.
const lanesSchedule = "204210000340000454125211605501610366101212113773030312201232130727323213332311323223"

// planeSum finds sums of vectors of rows.
func (b *builder) planeSum() {
	b.doc("finds, for a vector of rows at a time, Σe = Σ exp(x−m) and", map[Form]string{
		Uniform:   "Σd = Σ(x−m), and x_y.",
		Classwise: "Σu·(x−m), and x_y.",
		Dense:     "Σa and Σa·(x−m), where a = t·w + u.",
	}[b.Form])
	const group = 4
	exp := b.expConstants()
	x, t, labels := b.planeArgs()
	if t != nil { // relative to x
		b.SUBQ(x, t)
	}

	b.clearLanes()
	step := b.GP64()
	fetch := b.newStream(step)
	b.positions(b.width(), labels, []reg.GPVirtual{x, fetch.next}, func(slot reg.GPVirtual) {
		b.start(fetch)
		st := b.newPlaneState(&exp, slot, labels)
		// How far behind evenE the block's Σe are; from where these and Σd are gone on with, at first from zeros.
		lane, odd, fromE, fromD := b.load("lanesE"), b.GP64(), b.GP64(), b.GP64()
		b.XORQ(odd, odd)
		b.MOVQ(operand.I32(PlaneZeros), fromE)
		b.MOVQ(fromE, fromD)
		p, k := b.GP64(), b.GP64()
		b.MOVQ(x, p)
		b.XORQ(k, k)
		class := func(i int) operand.Mem { return operand.Mem{Base: p, Disp: i * b.planeStep()} }
		accumulate := func(sum, i int, v vec) {
			total, from, to := b.vector(), at(lane, fromE, 1, i*b.vectorBytes()), b.laneAt(lane, sum, i)
			if sum == evenE {
				to.Index, to.Scale = odd, 1
			} else {
				from = at(lane, fromD, 1, (sum-sumD)*b.lanesBytes()+i*b.vectorBytes())
			}
			b.add(total, v, from)
			b.storeF(total, to, nil)
		}
		one := func(i int) {
			s := st.class(class(i), operand.Mem{Base: p, Index: t, Scale: 1}, k, i)
			accumulate(evenE, i, s.e)
			accumulate(sumD, i, s.d)
			if s.a != nil {
				accumulate(sumA, i, s.a)
			}
		}
		// classes runs the body for so many classes after another, while there are so many.
		classes := func(n int, body func()) {
			loop, done, left := b.label("classes"), b.label("done"), b.GP64()
			b.Label(loop)
			b.MOVQ(b.arg("n"), left)
			b.SUBQ(k, left)
			b.CMPQ(left, operand.Imm(uint64(n)))
			b.JLT(operand.LabelRef(done))
			// Tiles have nothing to prefetch here: next is x.
			fetched := b.label("fetched")
			b.MOVQ(b.arg("next"), step)
			b.CMPQ(step, b.arg("x"))
			b.JEQ(operand.LabelRef(fetched))
			b.MOVQ(b.arg("xStep"), step)
			for range n {
				b.prefetch(fetch)
			}
			b.Label(fetched)
			body()
			b.ADDQ(operand.Imm(uint64(n)), k)
			b.ADDQ(operand.I32(int32(n*b.vectorBytes())), lane)
			b.ADDQ(operand.I32(int32(n*b.planeStep())), p)
			if t == nil {
				st.countTarget(n)
			}
			b.TESTQ(operand.I32(int32(b.lanes()-1)), k)
			b.JNE(operand.LabelRef(loop))
			b.SUBQ(operand.I32(int32(b.lanesBytes())), lane)
			b.XORQ(operand.I32(int32(b.lanesBytes())), odd)
			b.MOVQ(operand.I32(int32(sumD*b.lanesBytes())), fromD)
			b.CMPQ(k, operand.Imm(uint64(b.lanes())))
			b.CMOVQNE(odd, fromE)
			b.JMP(operand.LabelRef(loop))
			b.Label(done)
		}
		if b.Form == Uniform {
			skew := map[ISA]int{AVX2: 8, AVX512: 4}[b.ISA]
			if b.double() {
				skew *= 2
			}
			classes(group, func() {
				if b.ISA == AVX512 || b.double() {
					b.weave(group, skew, one)
					return
				}
				d := make([]vec, group)
				b.interleave(2*group, lanesSchedule, func(piece int) {
					if i := piece % group; piece < group {
						d[i] = st.difference(class(i))
						accumulate(evenE, i, st.exponential(class(i), d[i]))
					} else {
						st.see(class(i), i)
						accumulate(sumD, i, d[i])
					}
				})
			})
		}
		classes(1, func() { one(0) })
		lanes := b.load("lanesE")
		two := b.label("two") // of whose exponentials one is 1: the caller knows better
		b.CMPQ(b.arg("n"), operand.Imm(2))
		b.JE(operand.LabelRef(two))
		b.putRest(b.tree(lanes, evenE), slot)
		b.Label(two)
		b.put(b.tree(lanes, sumD), "d", slot)
		if b.Form == Dense {
			b.put(b.tree(lanes, sumA), "sumA", slot)
		}
		st.putTarget(slot)
	})
}

// clearLanes clears the lanes of all sums: those that have no class stay 0.
func (b *builder) clearLanes() {
	zero, base, at, clear := b.zero(), b.load("lanesE"), b.GP64(), b.label("clear")
	b.MOVQ(operand.I32(int32((sumA+1)*b.lanesBytes()-b.vectorBytes())), at)
	b.Label(clear)
	b.storeF(zero, operand.Mem{Base: base, Index: at, Scale: 1}, nil)
	b.SUBQ(operand.Imm(uint64(b.vectorBytes())), at)
	b.JGE(operand.LabelRef(clear))
}

// planeArgs loads what sums over planes are made of, as far as the form has it.
func (b *builder) planeArgs() (x, t, labels reg.GPVirtual) {
	x = b.load("x")
	if b.Form == Dense {
		t = b.load("t")
	} else {
		labels = b.load("labels")
	}
	return
}

// tree adds up the lanes of a sum by adjacent pairs.
func (b *builder) tree(base reg.Register, sum int) vec {
	var up func(lo, n int) vec
	up = func(lo, n int) vec {
		if n > 1 && (n > 2 || sum == evenE) {
			s := up(lo, n/2)
			b.add(s, s, up(lo+n/2, n/2))
			return s
		}
		s := b.copy(b.laneAt(base, sum, lo))
		switch {
		case sum == evenE:
			b.add(s, s, b.laneAt(base, oddE, lo))
		case n == 2:
			b.add(s, s, b.laneAt(base, sum, lo+1))
		}
		return s
	}
	return up(0, b.lanes())
}

// putRest stores Σe − 1.
func (b *builder) putRest(sum vec, slot reg.Register) {
	b.add(sum, sum, b.constant(-1))
	b.put(sum, "rest", slot)
}

// A stream is where to prefetch classes: of the next chunk's logits and of this chunk's gradient, so many bytes beyond; a forward
// pass has 0 there. Far apart as the classes are, the CPU would not do so by itself in time.
type stream struct{ next, p, beyond, step reg.GPVirtual }

// newStream starts at the next chunk's first rows. It wants a register with the step from class to class.
func (b *builder) newStream(step reg.GPVirtual) *stream {
	return &stream{b.load("next"), b.GP64(), b.load("beyond"), step}
}

// start starts at the first class of a vector of rows.
func (b *builder) start(s *stream) { b.MOVQ(s.next, s.p) }

// prefetch prefetches one class more. All of a vector's at once would have to wait for one another.
func (b *builder) prefetch(s *stream) {
	b.PREFETCHT1(operand.Mem{Base: s.p})
	b.PREFETCHT1(at(s.p, s.beyond, 1, 0))
	b.ADDQ(s.step, s.p)
}

// planeState is what a vector of rows has in registers.
type planeState struct {
	*builder
	constants       *expConstants
	minus           vec // the maximum, negative
	target, targetX vec
}

// newPlaneState starts a vector of rows.
func (b *builder) newPlaneState(exp *expConstants, slot, labels reg.Register) *planeState {
	st := &planeState{builder: b, constants: exp, minus: b.get("minus", slot)}
	if b.Form != Dense {
		st.target, st.targetX = b.labelVector(operand.Mem{Base: labels}), b.zero()
	}
	return st
}

// class computes class number, or k + number: e, which takes x's place, d or a·d, and a. It sees whether it is the targets'.
func (st *planeState) class(x, t operand.Mem, k reg.Register, number int) (s sums) {
	d := st.difference(x)
	if s.d = d; st.Form != Uniform {
		a := st.planeCoefficient(k, number, t)
		s.d = st.vector()
		st.mul(s.d, a, d)
		st.keepIf(s.d, notEqual, a, st.zero()) // 0·(−Inf) counts as 0
		if st.Form == Dense {
			s.a = a
		}
	}
	if st.Form != Dense {
		st.see(x, number)
	}
	s.e = st.exponential(x, d)
	return s
}

// difference is x − m.
func (st *planeState) difference(x operand.Mem) vec {
	d := st.vector()
	st.add(d, st.minus, x)
	return d
}

// exponential is exp(d), which it stores in x's place.
func (st *planeState) exponential(x operand.Mem, d vec) vec {
	e := st.exp(st.constants, d)
	st.storeF(e, x, nil)
	return e
}

// see sees whether a class is the targets'.
func (st *planeState) see(x operand.Mem, number int) {
	st.blend(st.targetX, st.equalTo(st.target, number), x)
}

// countTarget takes n classes from where the targets are.
func (st *planeState) countTarget(n int) {
	st.ps(st.VPSUBD, st.VPSUBQ, st.integer(n), st.target, st.target)
}

// sums are sums under way: Σe, Σd or Σa·d, and for distributions Σa.
type sums struct{ e, d, a vec }

// addSums adds y's to those of s, but not of exponentials.
func (b *builder) addSums(s, y sums) {
	b.add(s.d, s.d, y.d)
	if s.a != nil {
		b.add(s.a, s.a, y.a)
	}
}

// equalTo is where integers equal a constant.
func (b *builder) equalTo(x vec, number int) reg.Register { return b.equal(b.integer(number), x) }

// putTarget stores what the targets' classes have.
func (st *planeState) putTarget(slot reg.Register) {
	if st.Form == Dense {
		return
	}
	st.put(st.targetX, "target", slot)
}

// expTargets finds the exponentials of the targets' logits.
func (b *builder) expTargets() {
	b.doc("finds e_y = exp(x_y − m) of each row.")
	exp := b.expConstants()
	b.positions(b.width(), nil, nil, func(slot reg.GPVirtual) {
		y := b.get("target", slot)
		b.add(y, y, b.slot("minus", slot))
		b.put(b.exp(&exp, y), "ey", slot)
	})
}
