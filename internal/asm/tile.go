package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels that turn rows into planes, for few classes, and back. They take four classes of a group of rows at a time: what
// fits in four vectors.

// tileRows is the number of rows of a group: 8 of float32 or 4 of float64 in AVX2, 16 of float32 in AVX-512.
func (b *builder) tileRows() int { return b.width() }

// tiling is what to do with tiles: groups of rows by a few classes. start runs before the first tile of a group, end after the last, and
// passed after each step, with the number of classes that it moved on. four does four classes, eight does eight, as long as there are so
// many, and two the last two. All but four may be nil.
type tiling struct {
	base, stride     string // arguments that say where rows are
	start, end       func(row reg.GPVirtual)
	passed           func(classes operand.Op)
	two, four, eight tileBody
}

// tileBody is what tiles runs for each group of rows and some classes: plane is where the first class of the first row is, and step the
// distance to the next class. With fewer than four classes, partial is their mask.
type tileBody func(row *rowPointers, plane operand.Mem, step reg.GPVirtual, partial *tail)

// tiles goes over all tiles. The last rows and classes overlap those before, so that nothing beyond is touched.
func (b *builder) tiles(t tiling) {
	r := &rowPointers{stride: b.load(t.stride), stride3: b.GP64()}
	for i := 0; i < b.tileRows(); i += 4 {
		r.quads = append(r.quads, b.GP64())
	}
	b.LEAQ(at(r.stride, r.stride, 2, 0), r.stride3)
	step := b.load("planeStep")
	b.groups(func(row reg.GPVirtual) {
		if t.start != nil {
			t.start(row)
		}
		b.tileClasses(t, r, row, step)
		if t.end != nil {
			t.end(row)
		}
	})
}

// groups runs the body for each group of rows: row is its first row. The last group overlaps the one before.
func (b *builder) groups(body func(row reg.GPVirtual)) {
	row, last := b.GP64(), b.load("rows")
	b.XORQ(row, row)
	b.SUBQ(operand.Imm(uint64(b.tileRows())), last)
	group, done := b.label("group"), b.label("done")
	b.Label(group)
	body(row)
	b.CMPQ(row, last)
	b.JGE(operand.LabelRef(done))
	b.ADDQ(operand.Imm(uint64(b.tileRows())), row)
	b.CMPQ(row, last)
	b.CMOVQGT(last, row)
	b.JMP(operand.LabelRef(group))
	b.Label(done)
}

// tileClasses goes over the tiles of a group of rows: eight classes after another, then four.
func (b *builder) tileClasses(t tiling, r *rowPointers, row, step reg.GPVirtual) {
	first := r.quads[0]
	b.MOVQ(r.stride, first)
	b.IMULQ(row, first)
	b.ADDQ(b.arg(t.base), first)
	for i, p := range r.quads[1:] {
		b.LEAQ(at(r.quads[i], r.stride, 4, 0), p)
	}
	plane, class := b.load("plane"), b.GP64()
	b.LEAQ(at(plane, row, b.f(), 0), plane)
	b.MOVQ(b.arg("n"), class)

	soon := b.GP64() // where to prefetch: a step takes so many lines' worth of elements
	b.LEAQ(operand.Mem{Base: first, Disp: coef.SoonBytes}, soon)
	take := func(n int, body tileBody, partial *tail) {
		lines := n * b.tileRows() * b.Element.size() / 64
		for i := range lines {
			b.PREFETCHT0(operand.Mem{Base: soon, Disp: 64 * i})
		}
		b.ADDQ(operand.I32(int32(64*lines)), soon)
		body(r, operand.Mem{Base: plane}, step, partial)
	}
	hop := func() { // over four classes
		for _, p := range r.quads {
			b.ADDQ(operand.Imm(uint64(4*b.Element.size())), p)
		}
		b.LEAQ(at(plane, step, 4, 0), plane)
		if t.passed != nil {
			t.passed(b.integer(4))
		}
	}
	whole, overlap, done := b.label("classes"), b.label("overlap"), b.label("next")
	if t.eight != nil {
		eights, few := b.label("eights"), b.label("few")
		b.CMPQ(class, operand.Imm(8))
		b.JL(operand.LabelRef(few))
		b.Label(eights)
		take(8, t.eight, nil)
		b.SUBQ(operand.Imm(8), class)
		b.JE(operand.LabelRef(done))
		hop()
		b.CMPQ(class, operand.Imm(4))
		b.JL(operand.LabelRef(overlap))
		hop()
		b.CMPQ(class, operand.Imm(8))
		b.JGE(operand.LabelRef(eights))
		b.JMP(operand.LabelRef(whole))
		b.Label(few)
	}
	b.CMPQ(class, operand.Imm(4))
	b.JGE(operand.LabelRef(whole))
	partial := &tail{}
	if b.Element <= Float64 {
		partial = b.tailOf(class)
	}
	if b.Element != Float32 {
		partial.index = b.GP64()
		b.XORQ(partial.index, partial.index)
	}
	take(4, t.four, partial)
	b.JMP(operand.LabelRef(done))

	b.Label(whole)
	take(4, t.four, nil)
	b.SUBQ(operand.Imm(4), class)
	b.JE(operand.LabelRef(done))
	b.CMPQ(class, operand.Imm(4))
	b.JL(operand.LabelRef(overlap))
	hop()
	b.JMP(operand.LabelRef(whole))
	b.Label(overlap) // 1 to 3 are left: go on by so many
	if t.two != nil {
		other := b.label("other")
		b.CMPQ(class, operand.Imm(2))
		b.JNE(operand.LabelRef(other))
		hop()
		take(2, t.two, nil)
		b.JMP(operand.LabelRef(done))
		b.Label(other)
	}
	bytes := b.GP64()
	for _, p := range r.quads {
		b.LEAQ(at(p, class, b.Element.size(), 0), p)
	}
	b.MOVQ(step, bytes)
	b.IMULQ(class, bytes)
	b.ADDQ(bytes, plane)
	if t.passed != nil {
		t.passed(b.spreadInt(class))
	}
	b.MOVQ(operand.I32(4), class)
	b.JMP(operand.LabelRef(whole))
	b.Label(done)
}

// rowPointers are addresses of a group of rows, of four after four.
type rowPointers struct {
	quads           []reg.GPVirtual
	stride, stride3 reg.GPVirtual
}

// mem is where row i of the group is.
func (r *rowPointers) mem(i int) operand.Mem {
	base := r.quads[i/4]
	switch i % 4 {
	case 1:
		return at(base, r.stride, 1, 0)
	case 2:
		return at(base, r.stride, 2, 0)
	case 3:
		return at(base, r.stride3, 1, 0)
	}
	return operand.Mem{Base: base}
}

// square transposes four vectors, each quarter of four for itself if they are of float32.
func (b *builder) square(v [4]vec) (w [4]vec) {
	var t [4]vec
	for i := range t {
		t[i], w[i] = b.vector(), b.vector()
	}
	if b.double() {
		b.VUNPCKLPD(v[1], v[0], t[0])
		b.VUNPCKHPD(v[1], v[0], t[1])
		b.VUNPCKLPD(v[3], v[2], t[2])
		b.VUNPCKHPD(v[3], v[2], t[3])
		b.VPERM2F128(operand.Imm(0x20), t[2], t[0], w[0])
		b.VPERM2F128(operand.Imm(0x20), t[3], t[1], w[1])
		b.VPERM2F128(operand.Imm(0x31), t[2], t[0], w[2])
		b.VPERM2F128(operand.Imm(0x31), t[3], t[1], w[3])
		return w
	}
	b.VUNPCKLPS(v[1], v[0], t[0])
	b.VUNPCKHPS(v[1], v[0], t[1])
	b.VUNPCKLPS(v[3], v[2], t[2])
	b.VUNPCKHPS(v[3], v[2], t[3])
	b.VUNPCKLPD(t[2], t[0], w[0])
	b.VUNPCKHPD(t[2], t[0], w[1])
	b.VUNPCKLPD(t[3], t[1], w[2])
	b.VUNPCKHPD(t[3], t[1], w[3])
	return w
}

// load4 loads four elements, widened to float32.
func (b *builder) load4(m operand.Mem, t *tail) vec {
	v := b.XMM()
	var src operand.Op = m
	if t != nil && b.ISA == AVX512 {
		b.VMOVUPS_Z(m, t.k, v)
		return v
	}
	if t != nil && b.Element == Float32 {
		mask := b.XMM()
		b.VMOVUPS(t.mask, mask)
		b.VMASKMOVPS(m, mask, v)
		return v
	}
	if t != nil {
		src = b.loadHalves(m, t)
	}
	switch b.Element {
	case Float32:
		b.VMOVUPS(src, v)
	case Float16:
		b.VCVTPH2PS(src, v)
	case BFloat16:
		b.VPMOVZXWD(src, v)
		b.VPSLLD(operand.Imm(16), v, v)
	}
	return v
}

// loadQuads loads four elements of row i of a group, and of every fourth row after it.
func (b *builder) loadQuads(row *rowPointers, i int, t *tail) vec {
	v := b.vector()
	low := b.load4(row.mem(i), t)
	part := func(number int) operand.Op {
		if m := row.mem(i + 4*number); b.Element != Float32 || t != nil {
			return b.load4(m, t)
		} else {
			return m
		}
	}
	if b.ISA == AVX2 {
		b.VINSERTF128(operand.Imm(1), part(1), low.AsY(), v)
		return v
	}
	b.VINSERTF32X4(operand.Imm(1), part(1), low.AsZ(), v)
	b.VINSERTF32X4(operand.Imm(2), part(2), v, v)
	b.VINSERTF32X4(operand.Imm(3), part(3), v, v)
	return v
}

// pairsOfClasses runs the body for each group of rows of two float32 that lie side by side: rows is where the group's rows are,
// first and second where its planes are. Then it leaves the kernel. Other rows it leaves alone.
func (b *builder) pairsOfClasses(base, stride string, body func(row reg.GPVirtual, rows, first, second operand.Mem)) {
	if b.Element != Float32 {
		return
	}
	other := b.label("other")
	b.CMPQ(b.arg("n"), operand.Imm(2))
	b.JNE(operand.LabelRef(other))
	b.CMPQ(b.arg(stride), operand.Imm(8))
	b.JNE(operand.LabelRef(other))
	x, first, second := b.load(base), b.load("plane"), b.load("plane")
	b.ADDQ(b.arg("planeStep"), second)
	b.groups(func(row reg.GPVirtual) {
		for i := 0; i < 8*b.tileRows(); i += 64 {
			b.prefetchSoon(at(x, row, 8, i))
		}
		body(row, at(x, row, 8, 0), at(first, row, 4, 0), at(second, row, 4, 0))
	})
	b.VZEROUPPER()
	b.RET()
	b.Label(other)
}

// transpose copies rows to planes.
func (b *builder) transpose() {
	b.doc("copies rows to planes, as F, and finds the maximum m of each.")
	m := b.vector()
	end := func(row reg.GPVirtual) {
		slot := b.load("first")
		b.ADDQ(row, slot)
		b.putMaxima(m, slot, 0)
	}
	b.pairsOfClasses("x", "xStride", func(row reg.GPVirtual, rows, first, second operand.Mem) {
		v, w := b.pairsToPlanes(rows)
		b.VMOVUPS(v, first)
		b.VMOVUPS(w, second)
		b.maximum(m, v, w)
		end(row)
	})
	b.tiles(tiling{base: "x", stride: "xStride", start: func(row reg.GPVirtual) {
		b.move(b.negInf(), m)
	}, end: end, four: func(row *rowPointers, plane operand.Mem, step reg.GPVirtual, t *tail) {
		var v [4]vec
		for i := range v {
			if b.double() {
				v[i] = b.loadF(row.mem(i), t)
				continue
			}
			v[i] = b.loadQuads(row, i, t)
		}
		v = b.square(v)
		b.storeVectors(v, plane, step)
		b.maximum(v[1], v[1], v[0])
		if t == nil {
			b.maximum(v[3], v[3], v[2])
			b.maximum(v[1], v[1], v[3])
			b.maximum(m, m, v[1])
			return
		}
		two := b.label("two") // or three: fewer than four
		b.maximum(m, m, v[1])
		b.CMPQ(b.arg("n"), operand.Imm(2))
		b.JE(operand.LabelRef(two))
		b.maximum(m, m, v[2])
		b.Label(two)
	}})
}

// pairsToPlanes loads rows of two classes side by side: a vector of the first, and one of the second.
func (b *builder) pairsToPlanes(rows operand.Mem) (first, second vec) {
	v, w := b.copy(rows), b.vector()
	rows.Disp += b.vectorBytes()
	b.VMOVUPS(rows, w)
	if b.ISA == AVX512 {
		first = b.copy(v)
		b.VPERMT2PS(w, b.copy(b.data.evens()), first)
		b.VPERMT2PS(w, b.copy(b.data.odds()), v)
		return first, v
	}
	first, second = b.vector(), b.vector()
	b.VSHUFPS(operand.Imm(0x88), w, v, first)
	b.VSHUFPS(operand.Imm(0xDD), w, v, second)
	b.VPERMPD(operand.Imm(0xD8), first, first)
	b.VPERMPD(operand.Imm(0xD8), second, second)
	return first, second
}

// planesToPairs stores rows of two classes side by side.
func (b *builder) planesToPairs(first, second vec, rows operand.Mem) {
	beside, low, high, w := rows, b.vector(), b.vector(), b.vector()
	beside.Disp += b.vectorBytes()
	if b.ISA == AVX512 {
		b.VMOVAPS(first, low)
		b.VPERMT2PS(second, b.copy(b.data.zipped(0)), low)
		b.VPERMT2PS(second, b.copy(b.data.zipped(8)), first)
		b.VMOVUPS(low, rows)
		b.VMOVUPS(first, beside)
		return
	}
	b.VUNPCKHPS(second, first, high)
	b.VUNPCKLPS(second, first, low)
	b.VPERM2F128(operand.Imm(0x20), high, low, w)
	b.VMOVUPS(w, rows)
	b.VPERM2F128(operand.Imm(0x31), high, low, w)
	b.VMOVUPS(w, beside)
}

// storeVectors stores a vector for each of four classes.
func (b *builder) storeVectors(v [4]vec, plane operand.Mem, step reg.Register) {
	p := b.GP64()
	b.LEAQ(at(plane.Base, step, 2, 0), p)
	b.ps(b.VMOVUPS, b.VMOVUPD, v[0], plane)
	b.ps(b.VMOVUPS, b.VMOVUPD, v[1], at(plane.Base, step, 1, 0))
	b.ps(b.VMOVUPS, b.VMOVUPD, v[2], operand.Mem{Base: p})
	b.ps(b.VMOVUPS, b.VMOVUPD, v[3], at(p, step, 1, 0))
}

// transposeBack copies planes to rows, rounded to elements.
func (b *builder) transposeBack() {
	b.doc("copies planes to rows, rounded to elements.")
	b.pairsOfClasses("dst", "dstStride", func(_ reg.GPVirtual, rows, first, second operand.Mem) {
		b.planesToPairs(b.copy(first), b.copy(second), rows)
	})
	b.tiles(tiling{base: "dst", stride: "dstStride", four: func(row *rowPointers, plane operand.Mem, step reg.GPVirtual, t *tail) {
		for i, v := range b.square(b.loadVectors(plane, step)) {
			b.store4(v, row, i, t)
		}
	}})
}

// loadVectors loads a vector for each of four classes.
func (b *builder) loadVectors(plane operand.Mem, step reg.Register) (v [4]vec) {
	p := b.GP64()
	b.LEAQ(at(plane.Base, step, 2, 0), p)
	for i, m := range []operand.Mem{plane, at(plane.Base, step, 1, 0), {Base: p}, at(p, step, 1, 0)} {
		v[i] = b.loadF(m, nil)
	}
	return v
}

// tileScale is planeScale and transposeBack at once, for uniform smoothing.
func (b *builder) tileScale() {
	b.doc("turns exponentials in planes into gradients in rows: e·f − smooth, but gy for the target's class.")
	f, smooth, gy, y := b.vector(), b.vector(), b.vector(), b.vector() // y: targets, counted from a tile's first class
	scale := func(v vec, class int) {                                  // to the gradient, of a class so many on
		b.VFMSUB213PS(smooth, f, v)
		b.blend(v, b.equalTo(y, class), gy)
	}
	scaled := func(first int, plane operand.Mem, step reg.GPVirtual) [4]vec { // four classes, so many on, and squared
		v := b.loadVectors(plane, step)
		for i, v := range v {
			scale(v, first+i)
		}
		return b.square(v)
	}
	t := tiling{base: "dst", stride: "dstStride", start: func(row reg.GPVirtual) {
		slot := b.load("first")
		b.ADDQ(row, slot)
		b.VMOVUPS(b.slot("f", slot), f)
		b.VMOVUPS(b.slot("smooth", slot), smooth)
		b.VMOVUPS(b.slot("gy", slot), gy)
		b.VMOVUPS(b.labelVector(at(b.load("labels"), row, 4, 0)), y)
	}, passed: func(classes operand.Op) {
		b.VPSUBD(classes, y, y)
	}, four: func(row *rowPointers, plane operand.Mem, step reg.GPVirtual, t *tail) {
		for i, v := range scaled(0, plane, step) {
			b.store4(v, row, i, t)
		}
	}}
	if b.ISA == AVX2 {
		t.two = func(row *rowPointers, plane operand.Mem, step reg.GPVirtual, _ *tail) {
			v, w, low, high := b.copy(plane), b.copy(at(plane.Base, step, 1, 0)), b.vector(), b.vector()
			scale(v, 0)
			scale(w, 1)
			b.VUNPCKLPS(w, v, low)
			b.VUNPCKHPS(w, v, high)
			for half := range 2 {
				for i, v := range []vec{low, high} {
					x := v.AsX()
					if half == 1 {
						x = b.XMM()
						b.VEXTRACTF128(operand.Imm(1), v, x)
					}
					b.VMOVLPS(x, row.mem(4*half+2*i))
					b.VMOVHPS(x, row.mem(4*half+2*i+1))
				}
			}
		}
	}
	if b.ISA == AVX512 {
		low, high := b.copy(b.data.quarters(0)), b.copy(b.data.quarters(2))
		t.eight = func(row *rowPointers, plane operand.Mem, step reg.GPVirtual, _ *tail) {
			beyond := b.GP64()
			b.LEAQ(at(plane.Base, step, 4, 0), beyond)
			v, w := scaled(0, plane, step), scaled(4, operand.Mem{Base: beyond}, step)
			for i := range v {
				b.store8(v[i], w[i], low, high, row, i)
			}
		}
	}
	b.tiles(t)
}

// store4 stores four elements of row i of a group and, but for float64, four of row i+4.
func (b *builder) store4(v vec, row *rowPointers, i int, t *tail) {
	switch b.Element {
	case Float64:
		b.storeF(v, row.mem(i), t)
		return
	case Float32:
		if b.ISA == AVX512 {
			b.storeQuads(v, row, i, t)
			return
		}
		high := b.XMM()
		if t == nil {
			b.VMOVUPS(v.AsX(), row.mem(i))
			b.VEXTRACTF128(operand.Imm(1), v, row.mem(i+4))
			return
		}
		mask := b.XMM()
		b.VMOVUPS(t.mask, mask)
		b.VMASKMOVPS(v.AsX(), mask, row.mem(i))
		b.VEXTRACTF128(operand.Imm(1), v, high)
		b.VMASKMOVPS(high, mask, row.mem(i+4))
		return
	}
	half := b.halves(v)
	if t == nil {
		b.VMOVQ(half, row.mem(i))
		b.VPEXTRQ(operand.Imm(1), half, row.mem(i+4))
		return
	}
	high := b.XMM()
	b.VPSRLDQ(operand.Imm(8), half, high)
	b.storeHalves(half, row.mem(i), t)
	b.storeHalves(high, row.mem(i+4), t)
}

// storeQuads stores four elements of row i of a group, and of every fourth row after it.
func (b *builder) storeQuads(v vec, row *rowPointers, i int, t *tail) {
	for number := range 4 {
		part, m := v.AsX(), row.mem(i+4*number)
		switch {
		case number == 0:
		case t == nil:
			b.VEXTRACTF32X4(operand.Imm(uint64(number)), v, m)
			continue
		default:
			part = b.XMM()
			b.VEXTRACTF32X4(operand.Imm(uint64(number)), v, part)
		}
		if t == nil {
			b.VMOVUPS(part, m)
		} else {
			b.VMOVUPS(part, t.k, m)
		}
	}
}

// store8 stores eight elements of row i of a group, and of every fourth row after it: four are v's, four w's.
func (b *builder) store8(v, w, low, high vec, row *rowPointers, i int) {
	u := b.vector()
	b.VMOVAPS(v, u)
	b.VPERMT2PD(w, low, u)
	b.VPERMT2PD(w, high, v)
	for number, v := range []vec{u, v} {
		b.VMOVUPS(v.AsY(), row.mem(i+8*number))
		b.VEXTRACTF64X4(operand.Imm(1), v, row.mem(i+8*number+4))
	}
}
