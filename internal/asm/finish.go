package asm

import (
	"math/bits"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// fold adds up lanes, four rows at a time, or 16; what it writes and reads beyond the last row does not matter.
func (b *builder) fold() {
	b.doc("adds up each row's lanes, those of a block by a tree of adjacent pairs, the blocks and the bias in float64.")
	if b.ISA == AVX512 {
		b.fold16()
		return
	}
	row, sums, stride, i := b.load("lanes"), b.load("sums"), b.load("blocks"), b.load("folds")
	b.SHLQ(operand.Imm(uint64(bits.TrailingZeros(coef.LaneBytes))), stride)
	bias := b.YMM()
	b.VBROADCASTSD(b.arg("bias"), bias)
	biasF := operand.Op(bias)
	if !b.double() {
		biasF = b.loadScalar(b.arg("bias")).AsX()
	}
	rows, blocks := b.label("rows"), b.label("blocks")
	b.Label(rows)
	hi, lo := b.YMM(), b.YMM()
	b.VXORPD(hi, hi, hi)
	b.VXORPD(lo, lo, lo)
	even, odd, n := b.GP64(), b.GP64(), b.load("blocks")
	b.MOVQ(row, even)
	b.LEAQ(at(row, stride, 1, 0), odd)
	b.Label(blocks)

	// lane is a YMM register's worth of lanes of row r.
	lane := func(r, part int) vec {
		m := operand.Mem{Base: []reg.Register{even, odd}[r%2], Disp: part * 32}
		if r >= 2 {
			m.Index, m.Scale = stride, 2
		}
		return b.loadF(m, nil)
	}
	var s, sum vec // four F, and float64
	if b.double() {
		s = b.treesDouble(lane)
		sum = s
	} else {
		s, sum = b.treesSingle(lane), b.YMM()
	}
	single, folded := b.label("single"), b.label("folded")
	b.CMPQ(b.arg("blocks"), operand.Imm(1))
	b.JEQ(operand.LabelRef(single))
	if !b.double() {
		b.VCVTPS2PD(s, sum)
	}
	b.twoSum(hi, lo, sum)
	b.ADDQ(operand.Imm(coef.LaneBytes), even)
	b.ADDQ(operand.Imm(coef.LaneBytes), odd)
	b.DECQ(n)
	b.JNE(operand.LabelRef(blocks))

	b.VADDPD(bias, hi, hi)
	valid := b.YMM()
	b.VCMPPD(ordered, lo, lo, valid)
	b.VANDPD(valid, lo, lo)
	b.VADDPD(lo, hi, sum)
	if !b.double() {
		b.VCVTPD2PSY(sum, s)
	}
	b.JMP(operand.LabelRef(folded))
	b.Label(single) // no error to add
	b.add(s, s, biasF)
	b.Label(folded)
	b.ps(b.VMOVUPS, b.VMOVUPD, s, operand.Mem{Base: sums})
	b.ADDQ(operand.Imm(uint64(4*b.f())), sums)
	b.LEAQ(at(row, stride, 4, 0), row)
	b.SUBQ(operand.Imm(4), i)
	b.JG(operand.LabelRef(rows))
}

// twoSum adds s to hi, and the error of that to lo. It destroys s.
func (b *builder) twoSum(hi, lo, s vec) {
	h, v, u := b.vector(), b.vector(), b.vector()
	b.VADDPD(s, hi, h)
	b.VSUBPD(hi, h, v)
	b.VSUBPD(v, h, u)
	b.VSUBPD(u, hi, u)
	b.VSUBPD(v, s, s)
	b.VADDPD(s, u, u)
	b.VADDPD(u, lo, lo)
	b.VMOVAPD(h, hi)
}

// fold16 is fold for 16 rows of float32 at a time.
func (b *builder) fold16() {
	row, sums, stride, stride3, i := b.load("lanes"), b.load("sums"), b.load("blocks"), b.GP64(), b.load("folds")
	b.SHLQ(operand.Imm(uint64(bits.TrailingZeros(coef.LaneBytes))), stride)
	b.LEAQ(at(stride, stride, 2, 0), stride3)
	bias, biasF := b.ZMM(), b.loadScalar(b.arg("bias"))
	b.VBROADCASTSD(b.arg("bias"), bias)
	rows, blocks := b.label("rows"), b.label("blocks")
	b.Label(rows)
	var hi, lo [2]vec // of eight rows each
	for half := range hi {
		hi[half], lo[half] = b.zero(), b.zero()
	}
	var fours [4]reg.GPVirtual // every fourth row
	for f := range fours {
		fours[f] = b.GP64()
		if f == 0 {
			b.MOVQ(row, fours[f])
		} else {
			b.LEAQ(at(fours[f-1], stride, 4, 0), fours[f])
		}
	}
	n := b.load("blocks")
	b.Label(blocks)
	var quarters [4]vec // of four rows: a quarter of each row's lanes in each quarter
	for f, p := range fours {
		first := b.pairs(b.copy(operand.Mem{Base: p}), b.copy(at(p, stride, 1, 0)))
		quarters[f] = b.pairs(first, b.pairs(b.copy(at(p, stride, 2, 0)), b.copy(at(p, stride3, 1, 0))))
	}
	s := b.quarters(b.quarters(quarters[0], quarters[1]), b.quarters(quarters[2], quarters[3]))
	for _, p := range fours {
		b.ADDQ(operand.Imm(coef.LaneBytes), p)
	}
	single, folded := b.label("single"), b.label("folded")
	b.CMPQ(b.arg("blocks"), operand.Imm(1))
	b.JEQ(operand.LabelRef(single))
	upper, d := b.YMM(), [2]vec{b.ZMM(), b.ZMM()}
	b.VEXTRACTF64X4(operand.Imm(1), s, upper)
	b.VCVTPS2PD(s.AsY(), d[0])
	b.VCVTPS2PD(upper, d[1])
	for half, s := range d {
		b.twoSum(hi[half], lo[half], s)
	}
	b.DECQ(n)
	b.JNE(operand.LabelRef(blocks))

	for half, s := range d {
		b.VADDPD(bias, hi[half], s)
		k := b.K()
		b.VCMPPD(ordered, lo[half], lo[half], k)
		b.VADDPD(lo[half], s, k, s)
	}
	b.VCVTPD2PS(d[0], s.AsY())
	b.VCVTPD2PS(d[1], upper)
	b.VINSERTF64X4(operand.Imm(1), upper, s, s)
	b.JMP(operand.LabelRef(folded))
	b.Label(single) // no error to add
	b.VADDPS(biasF, s, s)
	b.Label(folded)
	b.VMOVUPS(s, operand.Mem{Base: sums})
	b.ADDQ(operand.Imm(coef.LaneBytes), sums)
	b.LEAQ(at(fours[3], stride3, 1, 0), row) // each of the fours is a row on
	b.SUBQ(operand.Imm(16), i)
	b.JG(operand.LabelRef(rows))
}

// pairs adds adjacent elements: of each quarter, those of x, then those of y.
func (b *builder) pairs(x, y vec) vec { return b.adjacent(b.VSHUFPS, x, y) }

// quarters adds adjacent quarters: those of x, then those of y.
func (b *builder) quarters(x, y vec) vec { return b.adjacent(b.VSHUFF32X4, x, y) }

// adjacent adds what a shuffle takes from even places to what it takes from odd ones.
func (b *builder) adjacent(shuffle func(...operand.Op), x, y vec) vec {
	even, odd := b.vector(), b.vector()
	shuffle(operand.Imm(0x88), y, x, even)
	shuffle(operand.Imm(0xDD), y, x, odd)
	b.VADDPS(odd, even, even)
	return even
}

// treesSingle adds up the 16 lanes of four rows.
func (b *builder) treesSingle(lane func(r, part int) vec) vec {
	var half [2]vec
	for part := range half { // a quarter of each row's lanes in each quarter of the two registers
		half[part] = b.pairs(b.pairs(lane(0, part), lane(1, part)), b.pairs(lane(2, part), lane(3, part)))
	}
	first, second := b.YMM(), b.YMM()
	b.VPERM2F128(operand.Imm(0x20), half[1], half[0], first)
	b.VPERM2F128(operand.Imm(0x31), half[1], half[0], second)
	b.VADDPS(second, first, first)
	high := b.XMM()
	b.VEXTRACTF128(operand.Imm(1), first, high)
	b.VADDPS(high, first.AsX(), high)
	return high
}

// treesDouble adds up the 8 lanes of four rows.
func (b *builder) treesDouble(lane func(r, part int) vec) vec {
	two := func(r, part int) reg.Register { // four lanes of rows r and r+1
		x := b.YMM()
		b.VHADDPD(lane(r+1, part), lane(r, part), x)
		high := b.XMM()
		b.VEXTRACTF128(operand.Imm(1), x, high)
		b.VADDPD(high, x.AsX(), high)
		return high
	}
	var rows [2]reg.Register
	for i := range rows {
		x, y := two(2*i, 0), two(2*i, 1)
		b.VADDPD(y, x, x)
		rows[i] = x
	}
	s := b.YMM()
	b.VINSERTF128(operand.Imm(1), rows[1], rows[0].(reg.VecVirtual).AsY(), s)
	return s
}

// slots is where the vector of float64 with a number from slot i on lies, of an argument with so many bytes for each row.
func (b *builder) slots(name string, i reg.Register, number, size int) operand.Mem {
	m := b.arg(name)
	m.Index, m.Scale = i, uint8(size)
	return after(m, number*b.vectorBytes()/8*size)
}

// finish makes losses of the sums of rows.
func (b *builder) finish() {
	grad := b.Op == FinishGrad
	b.doc("makes losses of the sums of rows: L − m = log1p(rest), loss = S·(L−m) − b, where S = main + eu, b = main·y + epsD·d and y = x_y − m.")
	// It computes in float64; what is F is widened.
	single := b.Element == Float32
	b.Element = Float64
	isF := func(name string) bool {
		f, _ := field(name)
		return single && f.Type == float
	}
	c := b.logConstants()
	i, end := b.GP64(), b.load("first")
	b.ADDQ(b.arg("rows"), end)
	slots := func(name string, number int) operand.Mem {
		if isF(name) {
			return b.slots(name, i, number, 4)
		}
		return b.slots(name, i, number, 8)
	}
	load := func(name string, number int) vec {
		v, m := b.vector(), slots(name, number)
		if isF(name) {
			b.VCVTPS2PD(m, v)
		} else {
			b.VMOVUPD(m, v)
		}
		return v
	}
	losses := func(number int, log vec) {
		in := func(name string) vec { return load(name, number) }
		out := func(name string, v vec) {
			switch m := slots(name, number); {
			case !isF(name):
				b.VMOVUPD(v, m)
			case b.ISA == AVX512:
				y := b.YMM()
				b.VCVTPD2PS(v, y)
				b.VMOVUPS(y, m)
			default:
				x := b.XMM()
				b.VCVTPD2PSY(v, x)
				b.VMOVUPS(x, m)
			}
		}
		total := func(name string, v vec) {
			sum, s := after(b.arg(name), number*b.vectorBytes()), b.vector()
			b.add(s, v, sum)
			b.VMOVUPD(s, sum)
		}
		lse, y, minus, main := b.vector(), in("target"), in("minus"), in("main")
		b.add(y, y, minus)
		b.sub(lse, log, minus)
		out("lse", lse)

		nll := b.vector()
		b.sub(nll, log, y)
		total("sumNLL", nll)

		target := b.vector()
		b.mul(target, main, y)
		b.keepIf(target, notEqual, main, b.zero()) // 0·(−Inf) counts as 0
		b.mulAddTo(target, b.broadcast(b.arg("epsD")), in("d"))
		sum := b.vector()
		b.add(sum, main, slots("eu", number))
		loss := b.copy(log)
		b.VFMSUB213PD(target, sum, loss)
		out("loss", loss)
		total("sumLoss", loss)

		z, lambda := b.vector(), b.broadcast(b.arg("lambda"))
		b.mul(z, lambda, lse)
		b.mul(z, z, lse)
		out("z", z)
		total("sumZ", z)
		if !grad {
			return
		}

		// total = rest + 1, f = (g·sum + zg)/total, gy = g·(main·(ey−total)/total + eu·p − uy) + zg·p, p = ey/total.
		whole, inv := b.vector(), b.vector()
		b.add(whole, in("rest"), c.one)
		b.div(inv, b.copy(c.one), whole)
		zg, g := b.vector(), in("g")
		b.mul(zg, lambda, c.two)
		b.mul(zg, zg, lse)
		b.mul(zg, zg, slots("gz", number))
		f := sum
		b.mulAdd(f, g, zg)
		b.mul(f, f, inv)
		out("f", f)
		ey, p, gy := in("ey"), b.vector(), b.vector()
		b.mul(p, ey, inv)
		b.sub(gy, ey, whole)
		b.mul(gy, gy, inv)
		b.mul(gy, gy, main)
		b.mul(zg, zg, p)
		b.VMOVUPD(slots("eu", number), whole)
		b.VFMSUB213PD(slots("uy", number), whole, p)
		b.add(gy, gy, p)
		b.mulAdd(gy, g, zg)
		out("gy", gy)
	}
	// Of short loops a CPU has more vectors under way. What they tell one another waits in the places of results.
	store := func(v vec, name string, number int) { b.VMOVUPD(v, slots(name, number)) }
	each := func(body func(number int)) {
		b.XORQ(i, i)
		b.repeat(i, end, coef.RowLanes, func() { b.weave(8*coef.RowLanes/b.vectorBytes(), 2, body) })
	}
	each(func(number int) {
		g, s, k := b.reduceLog1p(c, load("rest", number))
		store(g, "z", number)
		store(s, "loss", number)
		store(k, "lse", number)
	})
	each(func(number int) {
		log := b.log1p(c, load("z", number), load("loss", number), load("lse", number))
		store(log, "lse", number)
	})
	each(func(number int) { losses(number, load("lse", number)) })
}

// logConstants are what log1p needs, in memory but for 1: registers are for weaving.
type logConstants struct {
	one, two, two52, threeQuarters, exponent operand.Op
	c                                        []operand.Op // from the highest power down
	ln2Hi, ln2Lo                             operand.Op
}

func (b *builder) logConstants() (c logConstants) {
	c.one, c.two, c.two52 = b.number(1), b.data.float64(2), b.data.float64(coef.Two52)
	c.threeQuarters, c.exponent = b.data.float64(0.75), b.data.fill(0xFFF<<52)
	for _, v := range []float64{coef.LogP6, coef.LogP5, coef.LogP4, coef.LogP3, coef.LogP2, coef.LogP1, coef.LogP0} {
		c.c = append(c.c, b.data.float64(v))
	}
	c.ln2Hi, c.ln2Lo = b.data.float64(coef.Ln2Hi), b.data.float64(coef.Ln2Lo)
	return c
}

// reduceLog1p is what log(1+f) is made of, as in elementary.go of package lsr: 1+f = 2ᵏ·(1+g), s = g/(2+g).
func (b *builder) reduceLog1p(l logConstants, f vec) (g, s, k vec) {
	d, scale := b.vector(), b.vector()
	g, s, k = b.vector(), b.vector(), b.vector()
	b.add(d, f, l.one)
	b.VPSUBQ(l.threeQuarters, d, d)
	b.and(scale, d, l.exponent)
	b.VPSUBQ(scale, b.copy(l.one), scale)
	b.VPSRLQ(operand.Imm(52), d, k)
	b.or(k, k, l.two52)
	b.sub(k, k, l.two52)

	b.sub(g, scale, l.one)
	b.mulAddTo(g, f, scale)
	t := b.vector()
	b.add(t, g, l.two)
	b.div(s, g, t)
	return g, s, k
}

// log1p is log(1+f), once it is reduced.
func (b *builder) log1p(l logConstants, g, s, k vec) vec {
	z := b.vector()
	b.mul(z, s, s)
	p := b.broadcast(l.c[0])
	for _, c := range l.c[1:] {
		b.mulAdd(p, z, c)
	}
	b.ps(b.VFNMADD213PS, b.VFNMADD213PD, g, z, p) // g − z·p
	w := b.vector()
	b.mul(w, k, l.ln2Lo)
	b.VFNMADD231PD(p, s, w) // k·ln2Lo − s·p
	b.add(w, w, g)
	b.mulAddTo(w, k, l.ln2Hi)
	return w
}

// and sets dst = x AND y, and or alike.
func (b *builder) and(dst, x vec, y operand.Op) {
	if b.ISA == AVX512 {
		b.VPANDQ(y, x, dst)
	} else {
		b.VPAND(y, x, dst)
	}
}

func (b *builder) or(dst, x vec, y operand.Op) {
	if b.ISA == AVX512 {
		b.VPORQ(y, x, dst)
	} else {
		b.VPOR(y, x, dst)
	}
}
