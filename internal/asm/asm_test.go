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
		_, err := Assemble(SpecializedPlanes(classes, elements, isas, []Form{Uniform, Classwise, Dense}))
		require.NoError(t, err, "%d classes", classes)
	}
	rows := []int{1, 17, 33, 100, 1023, 4096, 2, 15, 16, 31, 63, 65, 127, 128, 129, 255, 257, 511, 512, 513, 1000, 1024, 1025, 4095}
	if testing.Short() {
		rows = rows[:6]
	}
	for _, classes := range rows {
		_, err := Assemble(SpecializedRows(classes, elements, isas))
		require.NoError(t, err, "%d classes", classes)
	}
}
