package asm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAwkwardClasses allocates registers for class counts that unroll, every one that has at most two classes in a lane, and for
// some others, in all forms.
func TestAwkwardClasses(t *testing.T) {
	isas, elements := []ISA{AVX2, AVX512}, []Element{Float32, Float64, Float16, BFloat16}
	for classes := 2; classes <= PlaneClasses; classes++ {
		if testing.Short() && classes > 9 || classes > 33 && classes%16 != 1 && classes < PlaneClasses-1 {
			continue
		}
		_, err := Assemble(Specialized(classes, elements, isas, []Form{Uniform, Classwise, Dense}), false)
		require.NoError(t, err, "%d classes", classes)
	}
	for _, classes := range []int{1, 2, 15, 16, 17, 31, 33, 63, 65, 100, 127, 128, 129, 255, 257, 511, 512, 513, 1000, 1023, 1024, 1025, 4095, 4096} {
		_, err := Assemble(SpecializedRows(classes, elements, isas), false)
		require.NoError(t, err, "%d classes", classes)
	}
}
