package lsr

import (
	"math"

	"github.com/golsr/lsr/internal/coef"
)

// Exponentials and logarithms, and the fused multiply-adds that they are made of: part of what lsr_generic.go defines.

// tie28 are the bits of a float64 below those that decide its rounding to float32.
const tie28 = uint64(1)<<28 - 1

// magic64 does in float64 what [coef.Exp32Magic] does in float32: its unit is 1 too.
const magic64 = coef.Exp64Magic

// expGroup32 sets e to the exponentials of x − pivot, and x to these differences, which are at most 0, or NaN.
//
// A float32 FMA is computed as float64(a)*float64(b) + float64(c): the product is exact, and the sum is rounded once more
// than the FMA is when it becomes a float32. That shows only when the sum is halfway between two float32 or exactly one
// of them: low 28 bits zero. Such elements go to exp32.
func expGroup32(e, x *group[float32], n int, pivot float32) {
	for i := range x[:n] {
		d := x[i] - pivot
		x[i] = d
		if d < coef.Exp32Min {
			e[i] = 0
			continue
		}
		z := float64(d)*coef.Exp32Inv + magic64
		b := math.Float64bits(z)
		r := float32(float64(d) - (z-magic64)*coef.Exp32Step)
		t := float64(r)*coef.Exp32C3 + coef.Exp32C2
		p := float64(r*r)*float64(float32(t)) + float64(r)
		s := float64(math.Float32frombits(coef.Exp32Table[b&7] + uint32(b)<<20))
		v := s*float64(float32(p)) + s
		e[i] = float32(v)
		if math.Float64bits(t)&tie28 == 0 || math.Float64bits(p)&tie28 == 0 || math.Float64bits(v)&tie28 == 0 {
			if e[i] = 1; d != 0 {
				e[i] = exp32(d)
			}
		}
	}
}

// exp32 is eˣ for x ≤ 0 with every FMA rounded as it must be: what expGroup32 computes, written to be read.
func exp32(x float32) float32 {
	if x < coef.Exp32Min {
		return 0
	}
	z := float64(x)*coef.Exp32Inv + magic64 // exact but for the rounding to an integer
	b := math.Float64bits(z)
	r := float32(float64(x) - (z-magic64)*coef.Exp32Step) // exact but for the rounding to float32
	p := fma32(float32(r*r), fma32(coef.Exp32C3, r, coef.Exp32C2), r)
	s := math.Float32frombits(coef.Exp32Table[b&7] + uint32(b)<<20)
	return fma32(s, p, s)
}

// fma32 is x·y + z rounded once.
func fma32(x, y, z float32) float32 {
	p := float64(x) * float64(y)
	s := p + float64(z)
	if math.Float64bits(s)&tie28 == 0 {
		return fmaTie(p, float64(z))
	}
	return float32(s)
}

// fmaTie is p + c rounded once to float32: the float64 sum is rounded to odd first, so that the second rounding does no harm
// (Boldo and Melquiond, 2008).
func fmaTie(p, c float64) float32 {
	s := p + c
	b := math.Float64bits(s)
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
	return float32(s)
}

// fma is x·y + z rounded once.
func fma[F real](x, y, z F) F {
	if isFloat64[F]() {
		return F(math.FMA(float64(x), float64(y), float64(z)))
	}
	return F(fma32(float32(x), float32(y), float32(z)))
}

// exp64 is eˣ for x ≤ 0.
func exp64(x float64) float64 {
	if x < coef.Exp64Min {
		return 0
	}
	z := math.FMA(x, coef.Exp64Inv, coef.Exp64Magic)
	b := math.Float64bits(z)
	n := z - coef.Exp64Magic
	r := math.FMA(n, -coef.Exp64StepLo, math.FMA(n, -coef.Exp64StepHi, x))
	t := math.FMA(coef.Exp64C7, r, coef.Exp64C6)
	t = math.FMA(t, r, coef.Exp64C5)
	t = math.FMA(t, r, coef.Exp64C4)
	t = math.FMA(t, r, coef.Exp64C3)
	t = math.FMA(t, r, coef.Exp64C2)
	p := math.FMA(float64(r*r), t, r)
	s := math.Float64frombits(coef.Exp64Table[b&7] + b<<49)
	return math.FMA(s, p, s)
}

// expGroup sets e to the exponentials of x − pivot, and x to these differences.
func expGroup[F real](e, x *group[F], n int, pivot F) {
	switch x := any(x).(type) {
	case *group[float32]:
		expGroup32(any(e).(*group[float32]), x, n, float32(pivot))
	case *group[float64]:
		e := any(e).(*group[float64])
		for i := range x[:n] {
			x[i] -= float64(pivot)
			e[i] = exp64(x[i])
		}
	}
}

// log1p is log(1+f) for f ≥ 0, or NaN; at most 0.84 ulp off (sampled). With 1+f = 2ᵏ·(1+g) and 1+g in [¾, 1½), g = f where
// k is 0: log(1+g) = 2·atanh(s) with s = g/(2+g), that is g − s·(g − s²·P(s²)).
func log1p(f float64) float64 {
	d := math.Float64bits(1+f) - math.Float64bits(0.75)
	scale := math.Float64frombits(math.Float64bits(1) - d&^(1<<52-1)) // 2⁻ᵏ
	k := math.Float64frombits(d>>52|math.Float64bits(coef.Two52)) - coef.Two52
	g := math.FMA(f, scale, scale-1)
	s := g / (2 + g)
	z := float64(s * s)
	p := math.FMA(coef.LogP6, z, coef.LogP5)
	p = math.FMA(p, z, coef.LogP4)
	p = math.FMA(p, z, coef.LogP3)
	p = math.FMA(p, z, coef.LogP2)
	p = math.FMA(p, z, coef.LogP1)
	p = math.FMA(p, z, coef.LogP0)
	w := math.FMA(-s, math.FMA(-z, p, g), float64(k*coef.Ln2Lo))
	return math.FMA(k, coef.Ln2Hi, g+w)
}

// logGroup32 sets log to log(1+e) of n elements e in [0, 1], or NaN: a few beside one another, with FMAs like those of expGroup32.
func logGroup32(log, e *group[float32], n int) {
	const few = 8
	c := &coef.Log32
	for start := 0; start < n; start += few {
		q, e, tie := log[start:start+few], e[start:start+few], false
		for i := range q {
			q[i] = c[len(c)-1]
		}
		for k := len(c) - 2; k >= 0; k-- {
			for i, e := range e {
				s := float64(q[i])*float64(e) + float64(c[k])
				tie = tie || math.Float64bits(s)&tie28 == 0
				q[i] = float32(s)
			}
		}
		for i, e := range e {
			s := float64(q[i])*float64(e*e) + float64(e)
			if q[i] = float32(s); tie || math.Float64bits(s)&tie28 == 0 {
				q[i] = log32(e)
			}
		}
	}
}

// log32 is log(1+e) for e in [0, 1], or NaN; at most 1.2 ulp off (measured). It is what logGroup32 computes, written to be read.
func log32(e float32) float32 {
	c := &coef.Log32
	q := c[len(c)-1]
	for k := len(c) - 2; k >= 0; k-- {
		q = fma32(q, e, c[k])
	}
	return fma32(q, float32(e*e), e)
}

// reduceLog makes of f ≥ 0, or NaN, what log(1+f) is made of: 1+f = 2ᵏ·(1+g), 1+g in [1, 2).
func reduceLog(f float32) (k, g float32) {
	d := math.Float32bits(1+f) - math.Float32bits(1)
	scale := math.Float32frombits(math.Float32bits(1) - d&^(1<<23-1)) // 2⁻ᵏ
	return float32(d >> 23), fma32(f, scale, scale-1)
}
