package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// expConstants are what exp needs, in registers or in memory as the instruction set has room.
type expConstants struct {
	inv, step, stepLo, table, tableHigh operand.Op
	min, magic                          vec
	c                                   []operand.Op // from the highest power down
}

func (b *builder) expConstants() (c expConstants) {
	if b.double() {
		c.min, c.magic = b.broadcast(b.data.float64(coef.Exp64Min)), b.broadcast(b.data.float64(coef.Exp64Magic))
		c.inv, c.step, c.stepLo = b.number(coef.Exp64Inv), b.number(coef.Exp64StepHi), b.number(coef.Exp64StepLo)
		for _, v := range []float64{coef.Exp64C7, coef.Exp64C6, coef.Exp64C5, coef.Exp64C4, coef.Exp64C3, coef.Exp64C2} {
			c.c = append(c.c, b.number(v))
		}
		if b.ISA == AVX512 {
			c.table = b.copy(b.data.table64())
		} else {
			c.table, c.tableHigh = b.data.halves64(false), b.data.halves64(true)
		}
		return c
	}
	c.min, c.magic = b.broadcast(b.data.float32(coef.Exp32Min)), b.broadcast(b.data.float32(coef.Exp32Magic))
	c.inv, c.step = b.number(coef.Exp32Inv), b.number(coef.Exp32Step)
	c.c = []operand.Op{b.number(coef.Exp32C3), b.number(coef.Exp32C2)}
	c.table = b.data.table32()
	if b.ISA == AVX512 {
		c.table = b.copy(c.table)
	}
	return c
}

// exp is eᵈ for d ≤ 0: with d = n·ln2/8 + r, it is S + S·(r + r²·(C2 + C3·r + …)), S = 2^(n/8). At the least d, S is 0:
// that is what AVX2 takes for all below, which in AVX-512 a mask sets to 0.
func (b *builder) exp(c *expConstants, d vec) vec {
	x, r := d, b.vector()
	if b.ISA == AVX2 {
		x = b.vector()
		b.maximum(x, c.min, d) // d where that is a NaN
	}
	z := b.copy(x)
	b.mulByAdd(z, c.inv, c.magic)
	var keep reg.Register
	if b.ISA == AVX512 {
		keep = b.compare(notLess, d, c.min)
	}
	b.sub(r, z, c.magic)
	if b.double() {
		n := r
		r = b.copy(x)
		b.negMulAddTo(r, n, c.step)
		b.negMulAddTo(r, n, c.stepLo)
	} else {
		b.VFNMADD132PS(c.step, x, r)
	}
	s := b.scale2(c, z)
	p := b.copy(c.c[0])
	for _, c := range c.c[1:] {
		b.mulAdd(p, r, c)
	}
	rr := b.vector()
	b.mul(rr, r, r)
	b.mulAdd(p, rr, r)
	switch {
	case b.ISA == AVX2:
		b.mulAdd(p, s, s)
	case b.double():
		b.VFMADD213PD_Z(s, s, keep, p)
	default:
		b.VFMADD213PS_Z(s, s, keep, p)
	}
	return p
}

// scale2 is S = 2^(n/8), n being in the low bits of z: table[n mod 8] + n<<20, or n<<49.
func (b *builder) scale2(c *expConstants, z vec) vec {
	s := b.vector()
	switch {
	case !b.double():
		b.VPERMPS(c.table, z, s)
		b.VPSLLD(operand.Imm(20), z, z)
		b.VPADDD(s, z, z)
	case b.ISA == AVX512:
		b.VPERMPD(c.table, z, s)
		b.VPSLLQ(operand.Imm(49), z, z)
		b.VPADDQ(s, z, z)
	default:
		low, high := b.vector(), b.vector()
		b.VPSHUFD(operand.Imm(0xA0), z, s)
		b.VPERMPS(c.table, s, low)
		b.VPERMPS(c.tableHigh, s, high)
		b.VBLENDPS(operand.Imm(0xAA), high, low, s)
		b.VPSLLQ(operand.Imm(49), z, z)
		b.VPADDQ(s, z, z)
	}
	return z
}
