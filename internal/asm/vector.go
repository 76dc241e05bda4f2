package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// The vocabulary: vectors of the type F that rows are computed in, float32 or float64.

type vec = reg.VecVirtual

// double reports whether F is float64.
func (b *builder) double() bool { return b.Element == Float64 }

// f is the size of F.
func (b *builder) f() int {
	if b.double() {
		return 8
	}
	return 4
}

// vectorBytes is the size of a vector, width how many F it holds, and parts how many of them hold the lanes of a sum.
func (b *builder) vectorBytes() int {
	if b.ISA == AVX512 {
		return 64
	}
	return 32
}
func (b *builder) width() int { return b.vectorBytes() / b.f() }
func (b *builder) parts() int { return coef.LaneBytes / b.vectorBytes() }

func (b *builder) vector() vec {
	if b.ISA == AVX512 {
		return b.ZMM()
	}
	return b.YMM()
}

// ps calls the instruction for float32 or its twin for float64.
func (b *builder) ps(single, double func(...operand.Op), ops ...operand.Op) {
	if b.double() {
		double(ops...)
	} else {
		single(ops...)
	}
}

func (b *builder) zero() vec {
	if b.ISA == AVX512 { // avo does not know that VPXORD of a register with itself reads nothing
		return b.broadcast(b.data.fill(0))
	}
	v := b.vector()
	b.VXORPS(v, v, v)
	return v
}

func (b *builder) copy(a operand.Op) vec {
	v := b.vector()
	b.ps(b.VMOVUPS, b.VMOVUPD, a, v)
	return v
}

// broadcast spreads an F in memory.
func (b *builder) broadcast(m operand.Op) vec {
	v := b.vector()
	b.ps(b.VBROADCASTSS, b.VBROADCASTSD, m, v)
	return v
}

// constant is memory with a constant.
func (b *builder) constant(v float64) operand.Mem {
	if b.double() {
		return b.data.float64(v)
	}
	return b.data.float32(float32(v))
}

// number is a constant for repeated use: memory in AVX2, which has few registers, a register in AVX-512.
func (b *builder) number(v float64) operand.Op {
	if m := b.constant(v); b.ISA != AVX512 {
		return m
	} else {
		return b.broadcast(m)
	}
}

// move sets a register that lasts to what another has.
func (b *builder) move(from, to vec) { b.ps(b.VMOVAPS, b.VMOVAPD, from, to) }

// integer is memory with an integer, as wide as F.
func (b *builder) integer(v int) operand.Mem {
	if b.double() {
		return b.data.fill(uint64(v))
	}
	return b.data.uint32(uint32(v))
}

func (b *builder) negInf() vec {
	if b.double() {
		return b.broadcast(b.data.fill(0xFFF0000000000000))
	}
	return b.broadcast(b.data.uint32(0xFF800000))
}

// sign is a vector of signs.
func (b *builder) sign() operand.Mem {
	if b.double() {
		return b.data.fill(1 << 63)
	}
	return b.data.uint32(1 << 31)
}

// add sets dst = x + y; sub, mul, max, and alike. y may be memory.
func (b *builder) add(dst, x vec, y operand.Op) { b.ps(b.VADDPS, b.VADDPD, y, x, dst) }
func (b *builder) sub(dst, x vec, y operand.Op) { b.ps(b.VSUBPS, b.VSUBPD, y, x, dst) }
func (b *builder) mul(dst, x vec, y operand.Op) { b.ps(b.VMULPS, b.VMULPD, y, x, dst) }
func (b *builder) div(dst, x vec, y operand.Op) { b.ps(b.VDIVPS, b.VDIVPD, y, x, dst) }
func (b *builder) maximum(dst, x vec, y operand.Op) {
	b.ps(b.VMAXPS, b.VMAXPD, y, x, dst)
}

func (b *builder) minimum(dst, x vec, y operand.Op) {
	b.ps(b.VMINPS, b.VMINPD, y, x, dst)
}

// mulAdd sets v = v·x + y. y may be memory.
func (b *builder) mulAdd(v, x vec, y operand.Op) { b.ps(b.VFMADD213PS, b.VFMADD213PD, y, x, v) }

// mulAddTo sets v = x·y + v. y may be memory.
func (b *builder) mulAddTo(v, x vec, y operand.Op) { b.ps(b.VFMADD231PS, b.VFMADD231PD, y, x, v) }

// mulByAdd sets v = v·x + y. x may be memory.
func (b *builder) mulByAdd(v vec, x operand.Op, y vec) { b.ps(b.VFMADD132PS, b.VFMADD132PD, x, y, v) }

// negMulAddTo sets v = v − x·y. y may be memory.
func (b *builder) negMulAddTo(v, x vec, y operand.Op) { b.ps(b.VFNMADD231PS, b.VFNMADD231PD, y, x, v) }

// Predicates of comparisons that let a NaN pass.
const (
	notLess  = operand.U8(0x15) // NLT_UQ
	notEqual = operand.U8(0x04) // NEQ_UQ
	ordered  = operand.U8(0x07) // ORD_Q, which does not
	greater  = operand.U8(0x1E) // GT_OQ, which does not either
)

// newMask is a register for a mask: of the instruction set's kind.
func (b *builder) newMask() reg.Register {
	if b.ISA == AVX512 {
		return b.K()
	}
	return b.vector()
}

// compare is which elements of x and y compare so, as a mask. y may be memory.
func (b *builder) compare(predicate operand.U8, x vec, y operand.Op) reg.Register {
	m := b.newMask()
	b.ps(b.VCMPPS, b.VCMPPD, predicate, y, x, m)
	return m
}

// mask is v where the mask has ones, and 0 elsewhere.
func (b *builder) mask(v vec, k reg.Register) {
	if b.double() {
		b.VMOVAPD_Z(v, k, v)
	} else {
		b.VMOVAPS_Z(v, k, v)
	}
}

// keepIf clears those elements of v for which the comparison of x and y does not hold. y may be memory.
func (b *builder) keepIf(v vec, predicate operand.U8, x vec, y operand.Op) {
	b.keep(v, b.compare(predicate, x, y))
}

// keep clears those elements of v for which a mask is not set.
func (b *builder) keep(v vec, mask reg.Register) {
	if b.ISA == AVX512 {
		b.mask(v, mask)
		return
	}
	b.ps(b.VANDPS, b.VANDPD, mask, v, v)
}

// A tail is which elements of a vector exist: all for nil, and the first of them otherwise. It is a mask register in
// AVX-512, and memory with ones and zeros in AVX2. The half types can't be loaded by a mask there: they need to know where
// the vector starts, at index of the row's n elements.
type tail struct {
	k     reg.Register
	mask  operand.Mem
	index reg.Register
	exact int  // how many there are, if that is known
	part  bool // at least one is missing
}

// tailAt is the tail of the vector at an index, one of a row's last.
func (b *builder) tailAt(index reg.Register) *tail {
	count := b.load("n")
	b.SUBQ(index, count)
	t := b.tailOf(count)
	t.index = index
	return t
}

// exist is the number of elements from the tail's index on. Without an index it is n, of which only the low bits count.
func (b *builder) exist(t *tail) reg.GPVirtual {
	i := b.load("n")
	if t.index != nil {
		b.SUBQ(t.index, i)
	}
	return i
}

// addExisting sets sum = sum + v for the elements of v that exist.
func (b *builder) addExisting(sum, v vec, t *tail) {
	switch {
	case t == nil:
		b.add(sum, sum, v)
	case b.ISA == AVX2:
		b.ps(b.VANDPS, b.VANDPD, t.mask, v, v)
		b.add(sum, sum, v)
	default:
		b.ps(b.VADDPS, b.VADDPD, v, sum, t.k, sum)
	}
}

// loadF loads a vector of F. What does not exist is 0.
func (b *builder) loadF(m operand.Mem, t *tail) vec {
	v := b.vector()
	switch {
	case t == nil:
		b.ps(b.VMOVUPS, b.VMOVUPD, m, v)
	case b.ISA == AVX2 && b.double():
		b.VMASKMOVPD(m, b.copy(t.mask), v)
	case b.ISA == AVX2:
		b.VMASKMOVPS(m, b.copy(t.mask), v)
	case b.double():
		b.VMOVUPD_Z(m, t.k, v)
	default:
		b.VMOVUPS_Z(m, t.k, v)
	}
	return v
}

// storeF stores a vector of F, but for what does not exist.
func (b *builder) storeF(v vec, m operand.Mem, t *tail) {
	switch {
	case t == nil:
		b.ps(b.VMOVUPS, b.VMOVUPD, v, m)
	case b.ISA == AVX2:
		b.storePart(v, m, t)
	default:
		b.ps(b.VMOVUPS, b.VMOVUPD, v, t.k, m)
	}
}

// storePart stores those of a YMM register's F that exist, not all of them: four, two and one at a time, since stores by a mask
// are slow on AMD's CPUs.
func (b *builder) storePart(v vec, m operand.Mem, t *tail) {
	p, number := b.GP64(), reg.GPVirtual(nil)
	if t.exact == 0 {
		number = b.exist(t)
	}
	b.LEAQ(m, p)
	x := b.XMM()
	b.VMOVAPS(v.AsX(), x)
	part := func(bytes int, store, shift func()) {
		n, skip := bytes/b.f(), b.label("skip")
		if t.exact != 0 {
			if t.exact&n == 0 {
				return
			}
		} else {
			b.TESTQ(operand.I32(int32(n)), number)
			b.JEQ(operand.LabelRef(skip))
		}
		store()
		if shift != nil {
			shift()
			b.ADDQ(operand.Imm(uint64(bytes)), p)
		}
		if t.exact == 0 {
			b.Label(skip)
		}
	}
	part(16, func() { b.VMOVUPS(x, operand.Mem{Base: p}) }, func() { b.VEXTRACTF128(operand.Imm(1), v, x) })
	if b.double() {
		part(8, func() { b.VMOVSD(x, operand.Mem{Base: p}) }, nil)
		return
	}
	part(8, func() { b.VMOVSD(x, operand.Mem{Base: p}) }, func() { b.VPSRLDQ(operand.Imm(8), x, x) })
	part(4, func() { b.VMOVSS(x, operand.Mem{Base: p}) }, nil)
}

// loadT loads elements and widens them to F. What does not exist is 0.
func (b *builder) loadT(m operand.Mem, t *tail) vec {
	if b.Element <= Float64 {
		return b.loadF(m, t)
	}
	v := b.vector()
	var src operand.Op = m
	switch {
	case t == nil:
	case b.ISA == AVX512:
		half := b.YMM()
		b.VMOVDQU16_Z(m, t.k, half)
		src = half
	default:
		src = b.loadLast(m, t)
	}
	if b.Element == Float16 {
		b.VCVTPH2PS(src, v)
	} else {
		b.VPMOVZXWD(src, v)
		b.VPSLLD(operand.Imm(16), v, v)
	}
	return v
}

// loadLast loads the 16-bit elements that exist, at most 8, of a row that has 8 or more: what is loaded ends with the row, and
// is moved to the front.
func (b *builder) loadLast(m operand.Mem, t *tail) vec {
	v := b.XMM()
	if t.exact != 0 {
		lack := 2 * (8 - t.exact)
		m.Disp -= lack
		control := b.data.shifts()
		control.Disp += lack
		b.VMOVDQU(m, v)
		b.VPSHUFB(control, v, v)
		return v
	}
	lack, p, zero := b.GP64(), b.GP64(), b.GP64()
	b.MOVQ(operand.U32(8), lack)
	b.SUBQ(b.exist(t), lack)
	b.XORQ(zero, zero)
	b.CMPQ(lack, zero)
	b.CMOVQLT(zero, lack)
	b.SHLQ(operand.Imm(1), lack)
	b.LEAQ(m, p)
	b.SUBQ(lack, p)
	b.VMOVDQU(operand.Mem{Base: p}, v)
	b.LEAQ(b.data.shifts(), p)
	b.VPSHUFB(at(p, lack, 1, 0), v, v)
	return v
}

// loadHalves loads the 16-bit elements that exist, fewer than 8, and 0 for the others.
func (b *builder) loadHalves(m operand.Mem, t *tail) vec {
	v, i, p := b.XMM(), b.exist(t), b.GP64()
	loop, done := b.label("halves"), b.label("loaded")
	b.LEAQ(m, p)
	b.VXORPS(v, v, v)
	b.Label(loop)
	b.DECQ(i)
	b.JLT(operand.LabelRef(done))
	b.VPSLLDQ(operand.Imm(2), v, v)
	b.VPINSRW(operand.Imm(0), at(p, i, 2, 0), v, v)
	b.JMP(operand.LabelRef(loop))
	b.Label(done)
	return v
}

// storeHalves stores the 16-bit elements that exist, fewer than 8. It destroys v.
func (b *builder) storeHalves(v vec, m operand.Mem, t *tail) {
	i, p := b.exist(t), b.GP64()
	loop, done := b.label("halves"), b.label("stored")
	b.LEAQ(m, p)
	b.Label(loop)
	b.DECQ(i)
	b.JLT(operand.LabelRef(done))
	b.VPEXTRW(operand.Imm(0), v, operand.Mem{Base: p})
	b.VPSRLDQ(operand.Imm(2), v, v)
	b.ADDQ(operand.Imm(2), p)
	b.JMP(operand.LabelRef(loop))
	b.Label(done)
}

// storeT rounds a vector of F to elements, once, and stores those that exist: in AVX2, all. It destroys v.
func (b *builder) storeT(v vec, m operand.Mem, t *tail) {
	switch {
	case b.Element <= Float64:
		b.storeF(v, m, t)
	case b.ISA == AVX2:
		b.VMOVDQU(b.halves(v), m)
	case b.Element == BFloat16 && t == nil:
		b.roundBFloat16(v)
		b.VPMOVDW(v, m)
	case b.Element == BFloat16:
		b.roundBFloat16(v)
		b.VPMOVDW(v, t.k, m)
	case t == nil:
		b.VCVTPS2PH(operand.Imm(nearest), v, m)
	default:
		half := b.YMM()
		b.VCVTPS2PH(operand.Imm(nearest), v, half)
		b.VMOVDQU16(half, t.k, m)
	}
}

// prefetchSoon prefetches what lies Soon after memory that starts a cache line, as far as that is known.
func (b *builder) prefetchSoon(m operand.Mem) {
	if m.Disp%64 == 0 {
		m.Disp += coef.SoonBytes
		b.PREFETCHT0(m)
	}
}

const nearest = 0 // rounding of VCVTPS2PH: to nearest, ties to even

// halves rounds eight float32 to a half type. It destroys v.
func (b *builder) halves(v vec) vec {
	x := b.XMM()
	if b.Element == Float16 {
		b.VCVTPS2PH(operand.Imm(nearest), v, x)
		return x
	}
	b.roundBFloat16(v)
	b.VEXTRACTI128(operand.Imm(1), v, x)
	b.VPACKUSDW(x, v.AsX(), x)
	return x
}

// roundBFloat16 leaves bfloat16 in the lower half of each float32: to nearest, ties to even, by adding 0x7FFF, and 1 if what
// stays is odd. A NaN has zeros below.
func (b *builder) roundBFloat16(v vec) {
	odd := b.vector()
	b.VPSRLD(operand.Imm(16), v, odd)
	if b.ISA == AVX512 {
		b.VPANDD(b.broadcast32(1), odd, odd)
		b.VPADDD(b.broadcast32(0x7FFF), v, v)
	} else {
		b.VPAND(b.data.uint32(1), odd, odd)
		b.VPADDD(b.data.uint32(0x7FFF), v, v)
	}
	b.VPADDD(odd, v, v)
	b.VPSRLD(operand.Imm(16), v, v)
}

// broadcast32 spreads a 32-bit integer.
func (b *builder) broadcast32(v uint32) vec {
	r := b.vector()
	b.VPBROADCASTD(b.data.uint32(v), r)
	return r
}

// tailOf is the tail of a vector of count elements, or of a whole one.
func (b *builder) tailOf(count reg.Register) *tail {
	if b.ISA == AVX512 {
		bits := b.GP64()
		cl := reg.RCX
		b.MOVQ(count, cl)
		b.MOVL(operand.U32(1), bits.As32())
		b.SHLQ(reg.CL, bits)
		b.DECQ(bits)
		k := b.K()
		b.KMOVW(bits.As32(), k)
		return &tail{k: k}
	}
	mask, used := b.GP64(), b.GP64()
	b.LEAQ(after(b.data.masks(), 128), mask)
	b.MOVQ(count, used)
	b.SHLQ(operand.Imm(map[int]uint64{4: 2, 8: 3}[b.f()]), used)
	b.SUBQ(used, mask)
	return &tail{mask: operand.Mem{Base: mask}}
}

// exactTail is the mask of a vector's first n elements, which are not all.
func (b *builder) exactTail(n int) *tail {
	if b.ISA == AVX512 {
		bits, k := b.GP64(), b.K()
		b.MOVL(operand.U32(1<<n-1), bits.As32())
		b.KMOVW(bits.As32(), k)
		return &tail{k: k, part: true}
	}
	m := b.data.masks()
	m.Disp += 128 - n*b.f()
	return &tail{mask: m, exact: n, part: true}
}

// horizontalMax folds a vector to its largest element, in the first place of the XMM register.
func (b *builder) horizontalMax(v vec) reg.Register {
	x := b.XMM()
	y := b.YMM()
	if b.ISA == AVX512 {
		b.VEXTRACTF64X4(operand.Imm(1), v, y)
		b.ps(b.VMAXPS, b.VMAXPD, v.AsY(), y, y)
	} else {
		b.VMOVAPS(v, y)
	}
	b.VEXTRACTF128(operand.Imm(1), y, x)
	m := y.AsX()
	b.ps(b.VMAXPS, b.VMAXPD, x, m, m)
	if b.double() {
		b.VPERMILPD(operand.Imm(1), m, x)
		b.VMAXPD(x, m, m)
		return m
	}
	b.VPERMILPS(operand.Imm(0x4E), m, x)
	b.VMAXPS(x, m, m)
	b.VPERMILPS(operand.Imm(0xB1), m, x)
	b.VMAXPS(x, m, m)
	return m
}
