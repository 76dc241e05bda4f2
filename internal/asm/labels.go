package asm

import "github.com/mmcloughlin/avo/operand"

// copyLabels copies labels of 4 or 8 bytes, eight at a time, to labels of 4. AVX-512 has nothing to add here.
func (b *builder) copyLabels() {
	b.doc("copies labels, as wide as an element, and sees whether all are classes.")
	from, to, i, n := b.load("x"), b.load("labels"), b.GP64(), b.load("rows")
	largest, high := b.zero(), b.zero()
	b.XORQ(i, i)
	b.loop(i, n, 8, func() {
		source := at(from, i, b.Element.size(), 0)
		v := b.copy(source)
		if b.double() {
			w, upper := b.YMM(), b.YMM()
			source.Disp += 32
			b.VMOVUPS(source, w)
			b.VSHUFPS(operand.Imm(0xDD), w, v, upper)
			b.VPOR(upper, high, high)
			b.VSHUFPS(operand.Imm(0x88), w, v, v)
			b.VPERMQ(operand.Imm(0xD8), v, v)
		}
		b.VPMAXUD(v, largest, largest)
		b.VMOVDQU(v, at(to, i, 4, 0))
	})
	last, bad := b.YMM(), b.GP64()
	b.MOVQ(b.arg("n"), bad)
	b.DECQ(bad)
	b.VMOVD(bad.As32(), last.AsX())
	b.VPBROADCASTD(last.AsX(), last)
	b.VPMAXUD(last, largest, largest)
	b.VPXOR(last, largest, largest)
	b.VPOR(high, largest, largest)
	b.XORQ(bad, bad)
	b.VPTEST(largest, largest)
	b.SETNE(bad.As8())
	b.MOVQ(bad, b.arg("bad"))
}
