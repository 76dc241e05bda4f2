//go:build !purego

package lsr

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/abi"
)

// entries are the addresses of the functions in assembly of this package, by name. Go's own references are to wrappers of the
// same name, but those are in no file that ends with .s.
func entries() map[string]unsafe.Pointer {
	found := map[string]unsafe.Pointer{}
	const aligned = 16 // functions are, at least
	start := reflect.ValueOf(kernels[0].code).Pointer()
	for _, step := range []int{aligned, -aligned} {
		for p := unsafe.Add(nil, start&^(aligned-1)); ; p = unsafe.Add(p, step) {
			f := runtime.FuncForPC(uintptr(p))
			if f == nil { // the end of the text
				break
			}
			name, ours := strings.CutPrefix(f.Name(), "github.com/golsr/lsr.")
			if file, _ := f.FileLine(f.Entry()); ours && strings.HasSuffix(file, ".s") {
				found[name] = unsafe.Add(nil, f.Entry())
			}
		}
	}
	return found
}

// TestABI calls every kernel and sees whether it leaves what Go expects: see internal/abi, which has faults planted.
func TestABI(t *testing.T) {
	entry := entries()
	for _, k := range callable(t) {
		require.Contains(t, entry, k.name)
		for _, n := range k.sizes(1, 2, 3, 7, 8, 10, 15, 16, 33, 64, 127, 200, 513) {
			a := kernelArgs(t, k, 16, n)
			require.Empty(t, abi.Broken(entry[k.name], unsafe.Pointer(a)), "%s of %d classes", k.name, n)
			a.labels = base([]int32{-1, 0, -1, -1, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1})
			require.Empty(t, abi.Broken(entry[k.name], unsafe.Pointer(a)), "%s of %d classes with rows to skip", k.name, n)
		}
	}
}
