package asm

import (
	"github.com/mmcloughlin/avo/operand"

	"github.com/golsr/lsr/internal/coef"
)

// finishSingle is finish for uniform smoothing without weights, z-loss or masks. What is less than 1 or counts ε is computed in float32,
// twice as many rows at a time, and added up in float64. As in pair, short loops follow one another.
func (b *builder) finishSingle() {
	b.doc("makes losses of the sums of rows: L − m = log(1+rest), loss = L−m − keep·y − epsD·d, where y = x_y − m.")
	i, end := b.GP64(), b.load("first")
	b.ADDQ(b.arg("rows"), end)
	each := func(rows int, body func()) {
		b.XORQ(i, i)
		b.repeat(i, end, rows, body)
	}
	one := b.data.float32(1)

	const woven, skew = 4, 2
	each(woven*b.width(), func() {
		b.weave(woven, skew, func(number int) {
			slot := func(name string) operand.Mem { return after(b.slot(name, i), number*b.vectorBytes()) }
			rest, d, scale, g := b.copy(slot("rest")), b.vector(), b.vector(), b.vector()
			b.add(d, rest, one)
			b.VPSUBD(one, d, d)
			b.and(scale, d, b.data.uint32(0xFF800000))
			b.VPSUBD(scale, b.broadcast(one), scale)
			b.VPSRLD(operand.Imm(23), d, d)
			b.VMOVUPS(d, slot("exponent"))
			b.sub(g, scale, one)
			b.mulAddTo(g, rest, scale)
			b.VMOVUPS(b.log32(g), slot("log"))
		})
	})

	b.Element = Float64 // in the sums
	keep, epsD := b.broadcast(b.arg("keep")), b.broadcast(b.arg("epsD"))
	counts := b.compare(notEqual, keep, b.zero())
	type lanes struct{ loss, nll vec }
	totals := make([]lanes, 8*coef.RowLanes/b.vectorBytes())
	total := func(name string, number int) operand.Mem { return after(b.arg(name), number*b.vectorBytes()) }
	for number := range totals {
		totals[number] = lanes{b.copy(total("sumLoss", number)), b.copy(total("sumNLL", number))}
	}
	each(coef.RowLanes, func() {
		for number, t := range totals {
			widen := func(convert func(...operand.Op), name string) vec {
				v := b.vector()
				convert(b.slots(name, i, number, 4), v)
				return v
			}
			store := func(v vec, name string) { b.VMOVUPD(v, b.slots(name, i, number, 8)) }
			log, y, nll := widen(b.VCVTPS2PD, "log"), widen(b.VCVTPS2PD, "target"), b.vector()
			minus := widen(b.VCVTPS2PD, "minus")
			b.add(y, y, minus)
			b.mulAddTo(log, widen(b.VCVTDQ2PD, "exponent"), b.data.float64(coef.Ln2Hi))
			lse := minus
			b.sub(lse, log, minus)
			store(lse, "lse")
			b.sub(nll, log, y)
			b.add(t.nll, t.nll, nll)
			b.keep(y, counts) // 0·(−Inf) counts as 0
			loss := log
			b.negMulAddTo(loss, y, keep)
			b.negMulAddTo(loss, widen(b.VCVTPS2PD, "d"), epsD)
			store(loss, "loss")
			b.add(t.loss, t.loss, loss)
		}
	})
	for number, t := range totals {
		b.VMOVUPD(t.loss, total("sumLoss", number))
		b.VMOVUPD(t.nll, total("sumNLL", number))
	}
	b.Element = Float32
	if b.Op == FinishSingle {
		return
	}

	// f = g/total, gy = keep·(ey−total)·f + eps·ey·f − smooth, total being rest + 1.
	keepF, eps := b.loadScalar(b.arg("keep")), b.loadScalar(b.arg("eps"))
	each(b.width(), func() {
		whole, f, ey, gy := b.get("rest", i), b.get("g", i), b.get("ey", i), b.vector()
		b.add(whole, whole, one)
		b.div(f, f, whole)
		b.put(f, "f", i)
		b.sub(whole, ey, whole)
		b.mul(whole, whole, f)
		b.mul(gy, ey, f)
		b.VFMSUB213PS(b.slot("smooth", i), eps, gy)
		b.mulAddTo(gy, keepF, whole)
		b.put(gy, "gy", i)
	})
}

// log32 is log(1+g) for g in [0, 1]: g + g²·(Log32[0] + Log32[1]·g + …).
func (b *builder) log32(g vec) vec {
	last, gg := len(coef.Log32)-1, b.vector()
	log := b.broadcast(b.data.float32(coef.Log32[last]))
	for k := last - 1; k >= 0; k-- {
		b.mulAdd(log, g, b.data.float32(coef.Log32[k]))
	}
	b.mul(gg, g, g)
	b.mulAdd(log, gg, g)
	return log
}
