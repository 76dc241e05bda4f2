//go:build !purego

package abi

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/cpu"
)

// TestPlants has every fault reported, and no other.
func TestPlants(t *testing.T) {
	if !cpu.X86.HasAVX {
		t.Skip("NOT TESTED: this machine has no AVX")
	}
	if !cpu.X86.HasAVX512F {
		t.Log("NOT TESTED: upper halves of ZMM registers, this machine has none")
	}
	var arg [8]uint64
	for name, fn := range Plants() {
		for range 100 {
			got := Broken(fn, unsafe.Pointer(&arg))
			switch name {
			case "":
				require.Empty(t, got)
			case "upper halves of ZMM":
				require.Equal(t, []string{"upper halves"}, got)
			default:
				require.Equal(t, []string{name}, got)
			}
		}
	}
}
