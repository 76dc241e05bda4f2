package asm

import "github.com/mmcloughlin/avo/operand"

// Kernels that copy planes, for what has its rows in the lanes.

// copyPlanes copies planes, which may lie far apart: of four cache lines' worth of F at a time, as long as there are so many, then of one.
func (b *builder) copyPlanes() {
	b.doc("copies planes of elements to planes of F, and finds the maximum m of each row.")
	x, f, slot, left := b.load("x"), b.load("plane"), b.load("first"), b.load("rows")
	for _, lines := range []int{4, 1} {
		rows, loop, classes, done := lines*b.lanes(), b.label("rows"), b.label("classes"), b.label("done")
		b.Label(loop)
		b.SUBQ(operand.Imm(uint64(rows)), left)
		b.JLT(operand.LabelRef(done))
		m := make([]vec, rows/b.width())
		for i := range m {
			m[i] = b.negInf()
		}
		from, to, class := b.GP64(), b.GP64(), b.load("n")
		b.MOVQ(x, from)
		b.MOVQ(f, to)
		b.Label(classes)
		for i, m := range m {
			v := b.loadT(operand.Mem{Base: from, Disp: i * b.width() * b.Element.size()}, nil)
			b.storeF(v, operand.Mem{Base: to, Disp: i * b.vectorBytes()}, nil)
			b.maximum(m, m, v)
		}
		b.ADDQ(b.arg("xStep"), from)
		b.ADDQ(operand.I32(int32(b.planeStep())), to)
		b.DECQ(class)
		b.JNE(operand.LabelRef(classes))
		for i, m := range m {
			b.putMaxima(m, slot, i)
		}
		b.ADDQ(operand.I32(int32(rows*b.Element.size())), x)
		b.ADDQ(operand.I32(int32(rows*b.f())), f)
		b.ADDQ(operand.Imm(uint64(rows)), slot)
		b.JMP(operand.LabelRef(loop))
		b.Label(done)
		b.ADDQ(operand.Imm(uint64(rows)), left)
	}
}

// convertPlanes copies planes of elements of a half type to planes of F, or back.
func (b *builder) convertPlanes() {
	b.doc(map[Op]string{Widen: "copies planes of elements to planes of F.", Narrow: "copies planes of F to planes of elements, rounded."}[b.Op])
	name := map[Op]string{Widen: "x", Narrow: "dst"}[b.Op]
	b.eachPlane(name, b.width(), func(element, f operand.Mem) {
		if b.Op == Narrow {
			b.storeT(b.loadF(f, nil), element, nil)
			return
		}
		b.storeF(b.loadT(element, nil), f, nil)
	})
}

// storePlanes copies planes of four bytes by non-temporal stores. Other stores do not wait for these: a fence does, which is there
// before the next copy, when it has least to wait for.
func (b *builder) storePlanes() {
	b.doc("copies planes to planes that start cache lines, by non-temporal stores, once those of the copy before have arrived.")
	b.SFENCE()
	none := b.label("none")
	b.CMPQ(b.arg("rows"), operand.Imm(0))
	b.JE(operand.LabelRef(none))
	b.eachPlane("dst", b.lanes(), func(dst, f operand.Mem) {
		low, high := b.loadF(f, nil), b.loadF(after(f, b.vectorBytes()), nil)
		b.VMOVNTPS(low, dst)
		b.VMOVNTPS(high, after(dst, b.vectorBytes()))
	})
	b.Label(none)
}

// eachPlane runs the body for so many rows after others of each plane: of elements, which an argument names, and of F.
func (b *builder) eachPlane(name string, step int, body func(element, f operand.Mem)) {
	elements, plane, class, i, rows := b.load(name), b.load("plane"), b.load("n"), b.GP64(), b.load("rows")
	loop := b.label("class")
	b.Label(loop)
	b.XORQ(i, i)
	b.repeat(i, rows, step, func() { body(at(elements, i, b.Element.size(), 0), at(plane, i, b.f(), 0)) })
	b.ADDQ(b.arg(name+"Step"), elements)
	b.ADDQ(b.arg("planeStep"), plane)
	b.DECQ(class)
	b.JNE(operand.LabelRef(loop))
}
