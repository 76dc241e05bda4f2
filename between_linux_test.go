package lsr

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMemoryBetweenRows has a guard page between any two rows: what is between the rows is neither read nor written.
func TestMemoryBetweenRows(t *testing.T) {
	everyType(t, betweenRows[float32], betweenRows[float64], betweenRows[Float16], betweenRows[BFloat16])
}

// newIslands is memory of so many rows with a page for each, and a guard page on both sides of each.
func newIslands(tb testing.TB, rows int) *fence {
	tb.Helper()
	page := unix.Getpagesize()
	f := newFence(tb, (2*rows-1)*page)
	for i := 1; i < 2*rows-1; i += 2 {
		require.NoError(tb, unix.Mprotect(f.mem[i*page:(i+1)*page], unix.PROT_NONE))
	}
	return f
}

// rowsAt are rows of so many classes, each at a side of its page.
func rowsAt[T Element](f *fence, rows, classes int, s side) Batch[T] {
	size, page := sizeOf[T](), unix.Getpagesize()
	start := 0
	if s == atEnd {
		start = page - classes*size
	}
	return RowsStride(viewAs[T](f.mem[start:start+2*(rows-1)*page+classes*size]), classes, 2*page/size)
}

func betweenRows[T Element](t *testing.T) {
	const rows = 17
	g := generator(44)
	x, d, dst := newIslands(t, rows), newIslands(t, rows), newIslands(t, rows)
	for _, classes := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 17, 20, 21, 23, 31, 33, 40, 100, 129, 512} {
		rows := []int{rows, 9, 8}[classes%3]
		logits, target, y := g.rows(rows, classes, 9), g.distributions(rows, classes), g.targets(rows, classes)
		for form, options := range kernelForms(&g, classes) {
			for _, kernel := range Kernels() {
				c := criterion(t, append(options, Kernel(kernel), Workers(1))...)
				for s := atStart; s <= atEnd; s++ {
					bx, bd, bg := rowsAt[T](x, rows, classes, s), rowsAt[T](d, rows, classes, s), rowsAt[T](dst, rows, classes, s)
					for i := range rows {
						for k := range classes {
							bx.Data[i*bx.Stride+k], bd.Data[i*bd.Stride+k] = element[T](logits[i][k]), element[T](target[i][k])
						}
					}
					calls := []func() (Result, error){
						func() (Result, error) { return Forward(c, bx, y) },
						func() (Result, error) { return Grad(c, bg, bx, y) },
						func() (Result, error) { return ForwardDist(c, bx, bd) },
						func() (Result, error) { return GradDist(c, bg, bx, bd) },
						func() (Result, error) { return Grad(c, bx, bx, y) },
					}
					for i, call := range calls {
						var err error
						require.NoError(t, fault(func() { _, err = call() }), "call %d %s %s K=%d rows=%d %s", i, kernel, form, classes, rows, s)
						require.NoError(t, err)
					}
				}
			}
		}
	}
}

// TestMemoryBetweenRowsNotices touches what is between two rows.
func TestMemoryBetweenRowsNotices(t *testing.T) {
	f := newIslands(t, 3)
	for s := atStart; s <= atEnd; s++ {
		b := rowsAt[float32](f, 3, 10, s)
		for i := range 3 {
			require.NoError(t, fault(func() { clear(b.Data[i*b.Stride:][:10]) }))
			if beyond := i*b.Stride + 10; s == atEnd && i < 2 {
				require.Error(t, fault(func() { b.Data[beyond] = 1 }))
			}
			if before := i*b.Stride - 1; s == atStart && i > 0 {
				require.Error(t, fault(func() { b.Data[before] = 1 }))
			}
		}
	}
}
