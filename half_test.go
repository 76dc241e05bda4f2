package lsr

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHalf converts every number of the half types, and what lies between any two.
func TestHalf(t *testing.T) {
	for b := range 1 << 16 {
		h := Float16(b)
		f := h.Float32()
		if f != f {
			require.Equal(t, Float16(0x7E00), ToFloat16(f))
			require.True(t, b&0x7C00 == 0x7C00 && b&0x3FF != 0)
			continue
		}
		require.Equal(t, h, ToFloat16(f))
		want := math.Ldexp(float64(b&0x3FF|0x400), b>>10&31-25)
		if b&0x7C00 == 0 {
			want = math.Ldexp(float64(b&0x3FF), -24)
		}
		if b&0x7FFF == 0x7C00 {
			want = inf
		}
		require.Equal(t, math.Copysign(want, float64(1-b>>15*2)), float64(f))
	}
	for b := range 1 << 16 {
		h := BFloat16(b)
		if f := h.Float32(); f == f {
			require.Equal(t, h, ToBFloat16(f))
			require.Equal(t, uint32(b)<<16, math.Float32bits(f))
		} else {
			require.Equal(t, BFloat16(0x7FC0), ToBFloat16(f))
		}
	}
	assert.Equal(t, Float16(0x7E00), ToFloat16(float32(nan)))
	assert.Equal(t, BFloat16(0x7FC0), ToBFloat16(math.Float32frombits(0x7F800001)))
	// Between two neighbours: the nearer, ties to even, seen in float64.
	nearest := func(name string, lo, hi float64, even bool, to func(float32) float64) {
		mid := (lo + hi) / 2
		m := float32(mid)
		require.Equal(t, mid, float64(m))
		tie := hi
		if even {
			tie = lo
		}
		require.Equal(t, tie, to(m), "%s: tie between %v and %v", name, lo, hi)
		require.Equal(t, -tie, to(-m), "%s: tie between %v and %v", name, lo, hi)
		require.Equal(t, lo, to(math.Nextafter32(m, 0)), name)
		require.Equal(t, hi, to(math.Nextafter32(m, float32(inf))), name)
	}
	for b := range 0x7C00 {
		hi := wide(Float16(b + 1))
		if b == 0x7BFF {
			hi = 65536
		}
		nearest("float16", wide(Float16(b)), hi, b&1 == 0, func(f float32) float64 {
			if h := ToFloat16(f); h&0x7FFF == 0x7C00 {
				return math.Copysign(65536, float64(f))
			} else {
				return wide(h)
			}
		})
	}
	for b := range 0x7F7F {
		nearest("bfloat16", wide(BFloat16(b)), wide(BFloat16(b+1)), b&1 == 0, func(f float32) float64 { return wide(ToBFloat16(f)) })
	}
	assert.Equal(t, BFloat16(0x7F80), ToBFloat16(math.MaxFloat32))
	type other uint16
	s := []other{0x3C00}
	assert.Equal(t, float32(1), AsFloat16(s)[0].Float32())
	s[0] = 0x3F80
	assert.Equal(t, float32(1), AsBFloat16(s)[0].Float32())
	assert.Empty(t, AsFloat16[other](nil))
}
