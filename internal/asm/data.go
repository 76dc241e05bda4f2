package asm

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"

	"github.com/golsr/lsr/internal/coef"
)

// data is the read-only memory of the kernels: each constant fills 32 bytes, so that AVX2 takes it from memory as it is, and
// AVX-512 spreads its first element.
type data struct {
	ctx   *build.Context
	at    map[any]int
	words []uint64
}

const dataName = "constants"

func newData(ctx *build.Context) *data { return &data{ctx: ctx, at: map[any]int{}} }

// mem is the address of so many bytes into the data.
func (d *data) mem(offset int) operand.Mem {
	return operand.NewDataAddr(operand.Symbol{Name: dataName, Static: true}, offset)
}

// add appends words that go by a key, once.
func (d *data) add(key any, words ...uint64) operand.Mem {
	offset, ok := d.at[key]
	if !ok {
		offset = len(d.words) * 8
		d.at[key] = offset
		d.words = append(d.words, words...)
	}
	return d.mem(offset)
}

// fill is 32 bytes of one word, or of the same word for each lane of a ZMM register: see spread.
func (d *data) fill(w uint64) operand.Mem { return d.add(w, w, w, w, w) }

// float32 is 32 bytes of a number, and so on.
func (d *data) float32(v float32) operand.Mem { return d.uint32(math.Float32bits(v)) }
func (d *data) float64(v float64) operand.Mem { return d.fill(math.Float64bits(v)) }
func (d *data) uint32(v uint32) operand.Mem   { return d.fill(uint64(v)<<32 | uint64(v)) }

// table32 is coef.Exp32Table twice, for 16 lanes.
func (d *data) table32() operand.Mem {
	var w []uint64
	for i := range 8 {
		w = append(w, uint64(coef.Exp32Table[2*i%8])|uint64(coef.Exp32Table[(2*i+1)%8])<<32)
	}
	return d.add("table32", w...)
}

// table64 is coef.Exp64Table.
func (d *data) table64() operand.Mem { return d.add("table64", coef.Exp64Table[:]...) }

// halves64 are the lower or upper halves of coef.Exp64Table.
func (d *data) halves64(upper bool) operand.Mem {
	shift := 0
	if upper {
		shift = 32
	}
	var w []uint64
	for i := 0; i < 8; i += 2 {
		w = append(w, coef.Exp64Table[i]>>shift&0xFFFFFFFF|coef.Exp64Table[i+1]>>shift<<32)
	}
	return d.add([2]bool{true, upper}, w...)
}

// masks are 128 bytes of ones and 128 of zeros: what starts at 128 − n is a mask of n bytes.
func (d *data) masks() operand.Mem {
	w := make([]uint64, 32)
	for i := range 16 {
		w[i] = math.MaxUint64
	}
	return d.add("masks", w...)
}

// shifts are controls of VPSHUFB: what starts at n moves bytes down by n, and clears those above.
func (d *data) shifts() operand.Mem {
	return d.add("shifts", 0x0706050403020100, 0x0F0E0D0C0B0A0908, 0x8080808080808080, 0x8080808080808080)
}

// places are 16 indices of float32.
func (d *data) places(of func(i int) int) operand.Mem {
	var w [8]uint64
	for i := range w {
		w[i] = uint64(of(2*i)) | uint64(of(2*i+1))<<32
	}
	return d.add(w, w[:]...)
}

// evens are the places of the first of each pair in two vectors, odds those of the second, and zipped where in two vectors pairs
// come from, from the pair with a number on.
func (d *data) evens() operand.Mem { return d.places(func(i int) int { return 2 * i }) }
func (d *data) odds() operand.Mem  { return d.places(func(i int) int { return 2*i + 1 }) }
func (d *data) zipped(pair int) operand.Mem {
	return d.places(func(i int) int { return pair + i/2 + i%2*16 })
}

// quarters are where two quarters of one vector, from one with a number on, and those of another come from in turn.
func (d *data) quarters(from int) operand.Mem {
	var w []uint64
	for i := range uint64(8) {
		w = append(w, uint64(2*from)+i/4*2+i%2+i/2%2*8)
	}
	return d.add([2]any{"quarters", from}, w...)
}

// emit writes the data.
func (d *data) emit() {
	d.ctx.StaticGlobal(dataName)
	d.ctx.DataAttributes(attr.RODATA | attr.NOPTR)
	for i, w := range d.words {
		if w != 0 || i == len(d.words)-1 { // the size is where the last word ends
			d.ctx.AddDatum(8*i, operand.U64(w))
		}
	}
}
