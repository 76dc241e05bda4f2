package lsr

import (
	"math"
	"unsafe"
)

// Float16 is the bits of an IEEE 754 binary16 number.
type Float16 uint16

// BFloat16 is the bits of a bfloat16 number: the upper half of a float32.
type BFloat16 uint16

// AsFloat16 looks at another library's float16 bits as []Float16, without a copy.
func AsFloat16[T ~uint16](bits []T) []Float16 {
	return unsafe.Slice((*Float16)(unsafe.Pointer(unsafe.SliceData(bits))), len(bits))
}

// AsBFloat16 looks at another library's bfloat16 bits as []BFloat16, without a copy.
func AsBFloat16[T ~uint16](bits []T) []BFloat16 {
	return unsafe.Slice((*BFloat16)(unsafe.Pointer(unsafe.SliceData(bits))), len(bits))
}

// Bits looks at half-precision numbers as their bits, without a copy.
func Bits[T Float16 | BFloat16](x []T) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// Float32 is the number, exactly.
func (h BFloat16) Float32() float32 { return math.Float32frombits(uint32(h) << 16) }

// ToBFloat16 rounds to nearest, ties to even. A NaN becomes the quiet NaN 0x7FC0.
func ToBFloat16(f float32) BFloat16 {
	b := math.Float32bits(f)
	if f != f {
		return 0x7FC0
	}
	return BFloat16((b + 0x7FFF + b>>16&1) >> 16)
}

// Float32 is the number, exactly.
func (h Float16) Float32() float32 {
	sign, em := uint32(h&0x8000)<<16, uint32(h&0x7FFF)
	switch {
	case em >= 0x7C00: // infinity, NaN
		return math.Float32frombits(sign | 0x7F800000 | em<<13&0x7FFFFF)
	case em >= 0x0400:
		return math.Float32frombits(sign | (em<<13 + (127-15)<<23))
	}
	f := float32(em) * 0x1p-24 // subnormal
	return math.Float32frombits(sign | math.Float32bits(f))
}

// ToFloat16 rounds to nearest, ties to even. A NaN becomes the quiet NaN 0x7E00.
func ToFloat16(f float32) Float16 {
	b := math.Float32bits(f)
	sign, b := Float16(b>>16&0x8000), b&0x7FFFFFFF
	switch {
	case f != f:
		return 0x7E00
	case b >= 0x477FF000: // 65520 and above
		return sign | 0x7C00
	case b >= 0x38800000: // 2⁻¹⁴, the smallest normal number
		b -= (127 - 15) << 23
		return sign | Float16((b+0xFFF+b>>13&1)>>13)
	}
	// Subnormal: adding ½ lets the float32 adder round at 2⁻²⁴.
	return sign | Float16(math.Float32bits(math.Float32frombits(b)+0.5)-math.Float32bits(0.5))
}
