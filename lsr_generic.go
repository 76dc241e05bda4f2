package lsr

import (
	"math"
	"unsafe"
)

// This file is the arithmetic of the package: what it computes, to the bit, on every machine. A row's numbers depend on
// its logits, its target, the options and K, and on nothing else. What that takes:
//
//   - exp is one sequence of operations for each element, fused multiply-adds included (exp32, exp64).
//   - Sums go over 16 virtual lanes: element k belongs to lane k mod 16. Four elements of a lane are added as a tree, such
//     fours one after another; every 512 elements the lanes are folded by a tree of adjacent pairs, and the sums of these
//     blocks are added in twice the precision. What is missing adds 0.
//   - What is subtracted before exp is a guess at the maximum: with an index target y, the largest of x_y and the first 64
//     logits. That needs no pass over a long row; a confident row, where e⁰ = 1 is the target's, stays exact. A row in which
//     some difference is outside the window of exp is computed anew with the true maximum, as rows with distribution
//     targets always are. The window ends at 7.5, since the difference is rounded: were the maximum further above the pivot,
//     its probability would be off by more than eight units in the last place.
//   - A row is finished in float64.

// real is a type that rows are computed in: float32 for itself and the half types, float64 for itself.
type real interface{ float32 | float64 }

const (
	lanes     = 16        // of a sum
	groupSize = 4 * lanes // elements that are added as trees of four in each lane
	blockSize = 512       // elements after which the lanes are folded
)

// group is a group's worth of elements, of which the first n count.
type group[F real] = [groupSize]F

// A float32 exponential: x = n·ln2/8 + r with |r| ≤ ln2/16, eˣ = 2^(n div 8)·2^((n mod 8)/8)·eʳ. The table holds the bits
// of 2^(i/8), less i in the place that n mod 8 will be added to. Largest errors, over all float32: see README.
const (
	exp32Bias = 936           // window of x − m: n in [−936, 88), that is x in [−81.1, 7.5]
	exp32Inv  = 0x1.715476p+3 // 8/ln2 in float32
	exp32Step = 0x1.62e43p-4  // ln2/8 in float32
	exp32C2   = 0x1.000836p-1 // eʳ ≈ 1 + r + r²·(C2 + C3·r)
	exp32C3   = 0x1.55589ap-3
	exp32Min  = -87.3             // below, eˣ is 0
	magic     = 3 << 51           // adding it to a float64 rounds to an integer, which the low bits then hold
	tie28     = uint64(1)<<28 - 1 // see exp32
)

var exp32Table = [8]uint32{
	0x3f800000 - (exp32Bias/8)<<23 - 0<<20, 0x3f8b95c2 - (exp32Bias/8)<<23 - 1<<20,
	0x3f9837f0 - (exp32Bias/8)<<23 - 2<<20, 0x3fa5fed7 - (exp32Bias/8)<<23 - 3<<20,
	0x3fb504f3 - (exp32Bias/8)<<23 - 4<<20, 0x3fc5672a - (exp32Bias/8)<<23 - 5<<20,
	0x3fd744fd - (exp32Bias/8)<<23 - 6<<20, 0x3feac0c7 - (exp32Bias/8)<<23 - 7<<20,
}

// expGroup32 sets e to the exponentials of x − pivot, and x to these differences. It returns bits that are all below
// 1024 if every difference is in the window.
//
// A float32 FMA is computed as float64(a)*float64(b) + float64(c): the product is exact, and the sum is rounded once more
// than the FMA is when it becomes a float32. That shows only when the sum is halfway between two float32 or exactly one
// of them: low 28 bits zero. Such elements go to exp32.
func expGroup32(e, x *group[float32], n int, pivot float32) (window uint64) {
	for i := range x[:n] {
		d := x[i] - pivot
		x[i] = d
		z := float64(d)*exp32Inv + (magic + exp32Bias)
		b := math.Float64bits(z)
		window |= b - magicBits
		r := float32(float64(d) - (z-(magic+exp32Bias))*exp32Step)
		t := float64(r)*exp32C3 + exp32C2
		p := float64(r*r)*float64(float32(t)) + float64(r)
		s := float64(math.Float32frombits(exp32Table[b&7] + uint32(b)<<20))
		v := s*float64(float32(p)) + s
		e[i] = float32(v)
		if math.Float64bits(t)&tie28 == 0 || math.Float64bits(p)&tie28 == 0 || math.Float64bits(v)&tie28 == 0 {
			if e[i] = 1; d != 0 {
				e[i] = exp32(d)
			}
		}
	}
	return window
}

var magicBits = math.Float64bits(magic)

// exp32 is eˣ with every FMA rounded as it must be: what expGroup32 computes, written to be read.
func exp32(x float32) float32 {
	z := float64(x)*exp32Inv + (magic + exp32Bias) // exact but for the rounding to an integer
	b := math.Float64bits(z)
	r := float32(float64(x) - (z-(magic+exp32Bias))*exp32Step) // exact but for the rounding to float32
	p := fma32(float32(r*r), fma32(exp32C3, r, exp32C2), r)
	s := math.Float32frombits(exp32Table[b&7] + uint32(b)<<20)
	return fma32(s, p, s)
}

// fma32 is x·y + z rounded once. The float64 sum is rounded to odd first, so that the second rounding does no harm
// (Boldo and Melquiond, 2008).
func fma32(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	if b := math.Float64bits(s); b&tie28 == 0 {
		// TwoSum (Knuth): the error of the sum.
		cc := s - p
		err := (p - (s - cc)) + (c - cc)
		if err != 0 && b<<1>>53 != 0x7FF {
			if (err > 0) == (s > 0) {
				s = math.Float64frombits(b | 1)
			} else {
				s = math.Float64frombits((b - 1) | 1)
			}
		}
	}
	return float32(s)
}

// A float64 exponential, in the same way with two constants for ln2/8.
const (
	exp64Bias   = 8104                   // window of x − m: n in [−8104, 88), that is x in [−702.2, 7.5]
	exp64Inv    = 0x1.71547652b82fep+3   // 8/ln2
	exp64StepHi = 0x1.62e42fefa4p-4      // ln2/8, cut so that its products with n are exact
	exp64StepLo = -0x1.8432a1b0e2634p-46 // the rest of it
	exp64Min    = -708.3                 // below, eˣ is 0
	exp64C2     = 0x1.000000000010bp-1   // eʳ ≈ 1 + r + r²·(C2 + C3·r + …), minimax on |r| ≤ ln2/16
	exp64C3     = 0x1.5555555555133p-3
	exp64C4     = 0x1.555555480d747p-5
	exp64C5     = 0x1.11111125cda6dp-7
	exp64C6     = 0x1.6c1cbdb8dc5c8p-10
	exp64C7     = 0x1.a0163d8c142b9p-13
)

var exp64Table = func() (t [8]uint64) {
	for i, b := range [8]uint64{
		0x3ff0000000000000, 0x3ff172b83c7d517b, 0x3ff306fe0a31b715, 0x3ff4bfdad5362a27,
		0x3ff6a09e667f3bcd, 0x3ff8ace5422aa0db, 0x3ffae89f995ad3ad, 0x3ffd5818dcfba487,
	} {
		t[i] = b - (exp64Bias/8)<<52 - uint64(i)<<49
	}
	return
}()

func expGroup64(e, x *group[float64], n int, pivot float64) (window uint64) {
	for i := range x[:n] {
		d := x[i] - pivot
		x[i] = d
		z := math.FMA(d, exp64Inv, magic+exp64Bias)
		b := math.Float64bits(z)
		window |= (b - magicBits) >> 3
		e[i] = exp64(d)
	}
	return window
}

// exp64 is eˣ.
func exp64(x float64) float64 {
	z := math.FMA(x, exp64Inv, magic+exp64Bias)
	b := math.Float64bits(z)
	n := z - (magic + exp64Bias)
	r := math.FMA(n, -exp64StepLo, math.FMA(n, -exp64StepHi, x))
	t := math.FMA(exp64C7, r, exp64C6)
	t = math.FMA(t, r, exp64C5)
	t = math.FMA(t, r, exp64C4)
	t = math.FMA(t, r, exp64C3)
	t = math.FMA(t, r, exp64C2)
	p := math.FMA(float64(r*r), t, r)
	s := math.Float64frombits(exp64Table[b&7] + b<<49)
	return math.FMA(s, p, s)
}

// expGroup is expGroup32 or expGroup64.
func expGroup[F real](e, x *group[F], n int, pivot F) (window uint64) {
	switch x := any(x).(type) {
	case *group[float32]:
		return expGroup32(any(e).(*group[float32]), x, n, float32(pivot))
	case *group[float64]:
		return expGroup64(any(e).(*group[float64]), x, n, float64(pivot))
	}
	panic("unreachable")
}

const window = 1024 // what expGroup returns is below it if every element was in the window

// zeroBelow sets the exponentials of differences below the least one that counts to 0. A NaN stays.
func zeroBelow[F real](e, x *group[F], n int) {
	least := F(exp32Min)
	if isFloat64[F]() {
		least = F(float64(exp64Min))
	}
	for i := range x[:n] {
		if x[i] < least {
			e[i] = 0
		}
	}
}

func isFloat64[F real]() bool { return unsafe.Sizeof(F(0)) == 8 }

// sum is a sum over a row.
type sum[F real] struct {
	lane   [lanes]F // of the block under way
	hi, lo float64  // of the blocks before: twice the precision
}

// add adds the first n elements of a group.
func (s *sum[F]) add(v *group[F], n int) {
	if n <= lanes {
		for l, v := range v[:n] {
			s.lane[l] += v
		}
		return
	}
	clear(v[n:])
	for l := range lanes {
		s.lane[l] += (v[l] + v[l+lanes]) + (v[l+2*lanes] + v[l+3*lanes])
	}
}

// fold ends a block: a tree of adjacent pairs.
func (s *sum[F]) fold() {
	t := &s.lane
	b := float64((((t[0] + t[1]) + (t[2] + t[3])) + ((t[4] + t[5]) + (t[6] + t[7]))) +
		(((t[8] + t[9]) + (t[10] + t[11])) + ((t[12] + t[13]) + (t[14] + t[15]))))
	*t = [lanes]F{}
	h := s.hi + b
	if isFloat64[F]() { // TwoSum (Knuth)
		v := h - s.hi
		s.lo += (s.hi - (h - v)) + (b - v)
	}
	s.hi = h
}

// totalLess is the sum less c. c is 0, or 1 where that is the exponential of the pivot: the rest keeps its digits.
func (s *sum[F]) totalLess(c float64) float64 {
	if h := s.hi - c; s.lo == s.lo {
		return h + s.lo
	} else { // the error of an infinite sum is NaN
		return h
	}
}

// log1p is log(1+f) for f ≥ 0, or NaN; at most 1.05 ulp off (measured). With 1+f = 2ᵏ·(1+g) and 1+g in [¾, 1½), g = f where
// k is 0: log(1+g) = 2·atanh(s) with s = g/(2+g), that is g − s·(g − s²·P(s²)).
func log1p(f float64) float64 {
	const two52 = 0x1p52
	d := math.Float64bits(1+f) - math.Float64bits(0.75)
	scale := math.Float64frombits(math.Float64bits(1) - d&^(1<<52-1)) // 2⁻ᵏ
	k := math.Float64frombits(d>>52|math.Float64bits(two52)) - two52
	g := math.FMA(f, scale, scale-1)
	s := g / (2 + g)
	z := s * s
	p := math.FMA(0x1.3abdd03f8d6e3p-3, z, 0x1.3852e00f63497p-3)
	p = math.FMA(p, z, 0x1.7474e2696e6f9p-3)
	p = math.FMA(p, z, 0x1.c71c016551af6p-3)
	p = math.FMA(p, z, 0x1.249249b222fp-2)
	p = math.FMA(p, z, 0x1.99999998f0bd6p-2)
	p = math.FMA(p, z, 0x1.5555555555776p-1)
	const ln2Hi, ln2Lo = 0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56
	w := math.FMA(-s, math.FMA(-z, p, g), k*ln2Lo)
	return math.FMA(k, ln2Hi, g+w)
}
