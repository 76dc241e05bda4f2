package asm

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// pairTile is how many rows of two classes each loop of the kernel takes before the next loop takes them. All in one loop would be
// too long a chain of instructions for a CPU to have enough vectors under way.
const pairTile = 128

// pair computes rows of two classes: all of a row, with vectors of rows in the lanes.
func (b *builder) pair() {
	grad := b.Op == PairGrad
	b.doc("computes rows of two classes, with gap = x_o − x_y and e = exp(−|gap|):",
		"loss = log(1+e) + max(gap, 0) − ε/2·gap, ∂/∂x_o = −∂/∂x_y = g·(p_o − ε/2).")
	exp := b.expConstants()
	half, halfEps, zero := b.XMM(), b.vector(), b.zero()
	b.VMOVSD(b.arg("halfEps"), half)
	b.VCVTSD2SS(half, half, half)
	b.VBROADCASTSS(half, halfEps)
	smooths := b.compare(notEqual, halfEps, zero)

	left, n, i := b.load("rows"), b.GP64(), b.GP64()
	labels, x, out, outStep := b.load("labels"), b.load("x"), b.load("out"), b.load("outStep")
	b.IMUL3Q(operand.I32(pairTile), outStep, outStep)
	var dst, factors reg.GPVirtual
	if grad {
		dst, factors = b.load("dst"), b.load("factors")
	}
	// The loops' bodies are for a vector of rows, so many from row i on.
	row := func(array, from int) operand.Mem { return at(out, i, 4, 4*(array*PairSlots+from)) }
	load := func(array, from int) vec { return b.copy(row(array, from)) }
	store := func(v vec, array, from int) { b.VMOVUPS(v, row(array, from)) }
	label := func(from int) operand.Mem { return at(labels, i, 4, 4*from) }

	exponentials := func(from int) {
		first, second := b.pairsToPlanes(at(x, i, 8, 8*from))
		m, gap, d := b.vector(), b.vector(), b.vector()
		b.maximum(m, first, second)
		store(m, PairMax, from)
		b.sub(gap, first, second)
		b.negateIf(gap, b.equal(label(from), zero))
		store(gap, PairGap, from)
		b.VORPS(b.sign(), gap, d)
		b.negMulAddTo(d, m, zero) // NaN if m is infinite
		store(b.exp(&exp, d), PairExp, from)
	}
	losses := func(from int) {
		log, gap := b.log32(load(PairExp, from)), load(PairGap, from)
		store(log, PairLog, from)
		counts, above, nll, loss := b.notNegative(b.labelVector(label(from))), b.vector(), b.vector(), log
		b.maximum(above, gap, zero)
		b.add(nll, log, above)
		b.keep(nll, counts)
		store(nll, PairNLL, from)
		b.minimum(gap, gap, b.data.float32(math.MaxFloat32)) // of a target's −Inf, above is to be left
		b.keep(gap, smooths)                                 // 0·Inf counts as 0
		b.negMulAddTo(loss, gap, halfEps)
		b.add(loss, loss, above)
		b.keep(loss, counts)
		store(loss, PairLoss, from)
	}
	gradients := func(from int) {
		b.prefetchSoon(at(dst, i, 8, 8*from))
		p, total, minus, one := load(PairExp, from), b.vector(), b.vector(), b.data.float32(1)
		b.add(total, p, one)
		b.blend(p, b.compare(greater, load(PairGap, from), zero), b.broadcast(one)) // where x_o is the larger
		b.div(p, p, total)
		b.sub(p, p, halfEps)
		b.mul(p, p, at(factors, i, 4, 4*from))
		b.negateIf(p, b.equal(label(from), zero))
		b.VXORPS(b.sign(), p, minus)
		b.planesToPairs(p, minus, at(dst, i, 8, 8*from))
	}
	loop := func(body func(from int)) {
		const woven, skew = 2, 2
		b.XORQ(i, i)
		b.repeat(i, n, woven*b.width(), func() {
			b.weave(woven, skew, func(number int) { body(number * b.width()) })
		})
	}

	tile := b.label("tile")
	b.Label(tile)
	b.MOVQ(operand.I32(pairTile), n)
	b.CMPQ(left, n)
	b.CMOVQLT(left, n)
	loop(exponentials)
	loop(losses)
	if grad {
		loop(gradients)
	}
	b.addUp(i, n, []sumOf{{"sumLoss", row(PairLoss, 0)}, {"sumNLL", row(PairNLL, 0)}})
	b.ADDQ(operand.I32(8*pairTile), x)
	b.ADDQ(operand.I32(4*pairTile), labels)
	b.ADDQ(outStep, out)
	if grad {
		b.ADDQ(operand.I32(8*pairTile), dst)
		b.ADDQ(operand.I32(4*pairTile), factors)
	}
	b.SUBQ(operand.I32(pairTile), left)
	b.JG(operand.LabelRef(tile))
}

// sumOf is a sum over rows, and what it adds up: float32 with the index i.
type sumOf struct {
	name string
	of   operand.Mem
}

// addUp adds n rows to the lanes of sums.
func (b *builder) addUp(i, n reg.GPVirtual, sums []sumOf) {
	lanes := make([][]vec, len(sums))
	each := func(f func(lane vec, of, total operand.Mem)) {
		for s, sum := range sums {
			total := b.arg(sum.name)
			for _, lane := range lanes[s] {
				f(lane, sum.of, total)
				sum.of.Disp += b.vectorBytes() / 2
				total.Disp += b.vectorBytes()
			}
		}
	}
	for s := range lanes {
		for range 8 * coef.RowLanes / b.vectorBytes() {
			lanes[s] = append(lanes[s], b.vector())
		}
	}
	each(func(lane vec, _, total operand.Mem) { b.VMOVUPD(total, lane) })
	b.XORQ(i, i)
	b.repeat(i, n, coef.RowLanes, func() {
		each(func(lane vec, of, _ operand.Mem) {
			v := b.vector()
			b.VCVTPS2PD(of, v)
			b.VADDPD(v, lane, lane)
		})
	})
	each(func(lane vec, _, total operand.Mem) { b.VMOVUPD(lane, total) })
}

// negateIf changes the sign of those elements of v for which the mask is set.
func (b *builder) negateIf(v vec, mask reg.Register) {
	if b.ISA == AVX512 {
		b.VXORPS(b.sign(), v, mask, v)
		return
	}
	signs := b.vector()
	b.VANDPS(b.sign(), mask, signs)
	b.VXORPS(signs, v, v)
}

// notNegative is where integers of 32 bits are at least 0.
func (b *builder) notNegative(x vec) reg.Register {
	m := b.newMask()
	b.VPCMPGTD(b.data.uint32(math.MaxUint32), x, m) // above −1
	return m
}
