package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// planeScale turns exponentials into gradients, of a cache line's worth of rows at a time.
func (b *builder) planeScale() {
	b.doc("turns exponentials into gradients, for some rows at a time: "+map[bool]string{true: "e·f − smooth,", false: "e·f − smooth·a,"}[b.Form == Uniform],
		"but gy for the target's class.")
	e, dst := b.load("e"), b.load("dst")
	var t, labels reg.GPVirtual
	if b.Form == Dense {
		t = b.load("t")
	} else {
		labels = b.load("labels")
	}
	b.positions(b.lanes(), labels, []reg.GPVirtual{e, dst, t}, func(slot reg.GPVirtual) {
		type factors struct{ f, smooth, target, gy vec }
		rows := make([]factors, b.parts())
		for i := range rows {
			first := b.GP64()
			b.LEAQ(operand.Mem{Base: slot, Disp: i * b.width()}, first)
			rows[i].f, rows[i].smooth = b.get("f", first), b.get("smooth", first)
			if b.Form != Dense {
				rows[i].target, rows[i].gy = b.labelVector(operand.Mem{Base: labels, Disp: 4 * i * b.width()}), b.get("gy", first)
			}
		}
		k, pe, pd, pt := b.GP64(), b.GP64(), b.GP64(), b.GP64()
		b.XORQ(k, k)
		b.MOVQ(e, pe)
		b.MOVQ(dst, pd)
		if b.Form == Dense {
			b.MOVQ(t, pt)
		}
		loop := b.label("class")
		b.Label(loop)
		var number vec
		if b.Form != Dense {
			number = b.spreadInt(k)
		}
		for i, r := range rows {
			part := func(base reg.Register) operand.Mem { return operand.Mem{Base: base, Disp: i * b.vectorBytes()} }
			v := b.loadF(part(pe), nil)
			if b.Form == Uniform {
				b.ps(b.VFMSUB213PS, b.VFMSUB213PD, r.smooth, r.f, v)
			} else {
				b.mul(v, v, r.f)
				b.negMulAddTo(v, r.smooth, b.planeCoefficient(k, 0, part(pt)))
			}
			if b.Form != Dense {
				b.blend(v, b.equal(r.target, number), r.gy)
			}
			b.storeF(v, part(pd), nil)
		}
		b.ADDQ(operand.I32(int32(b.planeStep())), pe)
		b.ADDQ(b.arg("dstStep"), pd)
		if b.Form == Dense {
			b.ADDQ(operand.I32(int32(b.planeStep())), pt)
		}
		b.INCQ(k)
		b.CMPQ(k, b.arg("n"))
		b.JLT(operand.LabelRef(loop))
	})
}
