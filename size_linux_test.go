package lsr

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// zeros maps so many zeros that nobody may write. They take no memory: all pages are the kernel's one page of zeros.
func zeros[T Element](tb testing.TB, n int) []T {
	tb.Helper()
	if strconv.IntSize == 32 {
		tb.Skip("NOT TESTED: more than 2^31 logits do not fit a 32-bit address space")
	}
	mem, err := unix.Mmap(-1, 0, n*sizeOf[T](), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	require.NoError(tb, err)
	tb.Cleanup(func() { unix.Munmap(mem) })
	return viewAs[T](mem)
}

// set writes one element of what zeros has mapped.
func set[T Element](tb testing.TB, data []T, i int, v T) {
	tb.Helper()
	page := uintptr(unix.Getpagesize())
	p := unsafe.Pointer(&data[i])
	around := unsafe.Slice((*byte)(unsafe.Add(p, -int(uintptr(p)%page))), page)
	require.NoError(tb, unix.Mprotect(around, unix.PROT_READ|unix.PROT_WRITE))
	data[i] = v
	require.NoError(tb, unix.Mprotect(around, unix.PROT_READ))
}

// resident is a line of /proc/self/status in bytes: VmRSS, what the process has in memory, or VmHWM, the most it had.
func resident(tb testing.TB, name string) int {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(tb, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kB, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			require.NoError(tb, err)
			return kB << 10
		}
	}
	tb.Skipf("NOT TESTED: /proc/self/status has no %s", name)
	return 0
}

// peak is the most memory that the process had while f ran, beyond what it had before.
func peak(tb testing.TB, f func()) int {
	tb.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // VmHWM starts again
		tb.Skipf("NOT TESTED: most memory resident: %v", err)
	}
	before := resident(tb, "VmRSS")
	f()
	return resident(tb, "VmHWM") - before
}

// TestSize makes calls with more than 2³¹ logits. All are 0 but the very last, so that an index of 32 bits is noticed.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: more than 2^31 logits in a call")
	}
	if raceEnabled {
		t.Skip("NOT TESTED with -race: the race detector's memory is a multiple of the logits'")
	}
	if Kernels()[0] == "go" {
		t.Skip("NOT TESTED without assembly: more than 2^31 logits in a call take plain Go too long")
	}
	for _, classes := range []int{1000, 70000} {
		t.Run(fmt.Sprintf("float32/%d", classes), func(t *testing.T) { testSize[float32](t, classes) })
		t.Run(fmt.Sprintf("bfloat16/%d", classes), func(t *testing.T) { testSize[BFloat16](t, classes) })
	}
}

const lastLogit = 20

func testSize[T Element](t *testing.T, classes int) {
	rows := math.MaxInt32/classes + 2
	data := zeros[T](t, rows*classes)
	set(t, data, len(data)-1, element[T](lastLogit))
	c := criterion(t, Smoothing(.1))
	losses, targets := make([]float64, rows), make([]uint8, rows)
	var result Result
	var err error
	most := peak(t, func() { result, err = Forward(c, Rows(data, classes), targets, PerRow{Loss: losses}) })
	require.NoError(t, err)
	t.Logf("%d logits, %d MiB resident at most", len(data), most>>20)
	require.Less(t, most, 1<<30)
	require.NoError(t, logK(classes, losses))
	require.InDelta(t, math.Log(float64(classes)), result.Loss, 20./float64(rows)+1e-9)
}

// logK reports whether all losses are log K but the last, whose row has a logit of lastLogit.
func logK(classes int, losses []float64) error {
	last, k := len(losses)-1, float64(classes)
	for i, loss := range losses {
		want := math.Log(k)
		if i == last {
			want = math.Log(k-1+math.Exp(lastLogit)) - .1/k*lastLogit
		}
		if !(math.Abs(loss-want) < 1e-5) { // NaN too
			return fmt.Errorf("row %d of %d: loss %v, expected %v", i, len(losses), loss, want)
		}
	}
	return nil
}

// TestSizeOfStride has rows so far apart that they lie beyond 2³¹ elements, with a gradient: it touches few pages.
func TestSizeOfStride(t *testing.T) {
	everyType(t, strideOf[float32], strideOf[float64], strideOf[Float16], strideOf[BFloat16])
}

func strideOf[T Element](t *testing.T) {
	const classes, rows = 999, 17
	start := func(row int) int { return row << 28 }
	for _, kernel := range Kernels() {
		x := RowsStride(zeros[T](t, start(rows)), classes, start(1))
		dst := RowsStride(zeros[T](t, start(rows)), classes, start(1))
		set(t, x.Data, start(rows-1)+classes-1, element[T](lastLogit))
		for i := range rows {
			p := base(dst.Data[start(i):])
			n := (classes*sizeOf[T]() + unix.Getpagesize() - 1) &^ (unix.Getpagesize() - 1)
			require.NoError(t, unix.Mprotect(unsafe.Slice((*byte)(p), n), unix.PROT_READ|unix.PROT_WRITE))
		}
		losses := make([]float64, rows)
		c := criterion(t, Smoothing(.1), Kernel(kernel), Reduce(Sum), Workers(1))
		most := peak(t, func() {
			var err error
			require.NoError(t, fault(func() { _, err = Grad(c, dst, x, make([]int, rows), PerRow{Loss: losses}) }))
			require.NoError(t, err)
		})
		require.Less(t, most, 64<<20)
		require.NoError(t, logK(classes, losses), kernel)
		for i := range rows {
			want := 1./classes - .9 - .1/classes
			if i == rows-1 { // its target's probability is 0
				want = -.9 - .1/classes
			}
			require.InDelta(t, want, wide(dst.Data[start(i)]), 1./256, "%s row %d", kernel, i)
		}
	}
}

// TestSizeNotices plants what the tests of this file must notice.
func TestSizeNotices(t *testing.T) {
	const n = 64 << 20
	t.Run("memory", func(t *testing.T) {
		f := newFence(t, n)
		most := peak(t, func() {
			for i := 0; i < n; i += 1024 {
				f.mem[i] = 1
			}
		})
		require.GreaterOrEqual(t, most, n/8*7)
	})
	t.Run("zeros", func(t *testing.T) {
		data := zeros[float32](t, n)
		sum := float32(0)
		most := peak(t, func() {
			for _, v := range data {
				sum += v
			}
		})
		require.Zero(t, sum)
		require.Less(t, most, n, "reading zeros takes memory")
		require.Error(t, fault(func() { data[n-1] = 1 }))
	})
	t.Run("index of 32 bits", func(t *testing.T) {
		const classes, rows = 1000, 100
		losses := make([]float64, rows)
		for last := range 2 { // the row before is read in the last one's place, as it would be with a wrong address
			data := zeros[float32](t, rows*classes)
			set(t, data, len(data)-1-last*classes, lastLogit)
			_, err := Forward(criterion(t, Smoothing(.1)), Rows(data, classes), make([]uint8, rows), PerRow{Loss: losses})
			require.NoError(t, err)
			require.Equal(t, last == 0, logK(classes, losses) == nil)
		}
	})
}
