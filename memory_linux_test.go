package lsr

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/golsr/lsr/internal/coef"
)

// fence is memory between two pages that cannot be touched.
type fence struct{ mem []byte }

func newFence(tb testing.TB, size int) *fence {
	tb.Helper()
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(tb, err)
	tb.Cleanup(func() { unix.Munmap(all) })
	require.NoError(tb, unix.Mprotect(all[:page], unix.PROT_NONE))
	require.NoError(tb, unix.Mprotect(all[page+size:], unix.PROT_NONE))
	return &fence{all[page : page+size : page+size]}
}

// readOnly lets the memory be read, and no longer written.
func (f *fence) readOnly(tb testing.TB) *fence {
	tb.Helper()
	require.NoError(tb, unix.Mprotect(f.mem, unix.PROT_READ))
	return f
}

// A side is where memory lies: right after the first guard page, or right before the last.
type side int

const (
	atStart side = iota
	atEnd
)

func (s side) String() string { return [...]string{"at the start", "at the end"}[s] }

// place is so many bytes at a side.
func (f *fence) place(n int, s side) []byte {
	if s == atStart {
		return f.mem[:n:n]
	}
	return f.mem[len(f.mem)-n:]
}

// viewAs is memory as a slice of another type.
func viewAs[E any](b []byte) []E {
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/sizeOf[E]())
}

// fault runs f, and says where it touches memory that it must not.
func fault(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // for this goroutine: criteria here have one worker
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = fmt.Errorf("fault at %#x", r.Addr())
		default:
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	f()
	return nil
}

// canary fills what nobody may write.
const canary = 0x3A

// span is a part of memory.
type span struct{ offset, n int }

// unchanged reports whether memory is as before, but for the parts that may be written. It puts them back.
func (f *fence) unchanged(before []byte, parts ...span) bool {
	for _, p := range parts {
		copy(f.mem[p.offset:p.offset+p.n], before[p.offset:])
	}
	return bytes.Equal(f.mem, before)
}

// memorySizes are class counts and numbers of rows. Rows may be the lanes of vectors when there are few classes.
func memorySizes(short bool) (sizes [][2]int) {
	for k := 1; k <= 1024; k++ {
		switch {
		case k <= 20 && !short || k <= 3 || k == 100 || k == 1000:
			for _, rows := range []int{1, 2, 7, 8, 9, 16, 17, 33} { // 33 are more than two vectors
				sizes = append(sizes, [2]int{k, rows})
			}
		case !short || k <= 80 && k%3 == 1 || k%73 == 0 || k >= 1023:
			sizes = append(sizes, [2]int{k, 2 + k%2})
		}
	}
	return sizes
}

// longSizes have more than one segment, or are vocabularies.
func longSizes(short bool) (sizes [][2]int) {
	for _, k := range []int{4096, 8191, 8192, 8193, 8704, 8705, 9216, 9217, 9729, 10000, 32000, 50257} {
		if !short || k <= 9217 {
			sizes = append(sizes, [2]int{k, 1})
		}
	}
	return sizes
}

// TestMemory places logits, targets and gradients against pages that cannot be touched. What is only read cannot be written
// either, and padding stays as it is.
func TestMemory(t *testing.T) {
	everyType(t, memoryOf[float32], memoryOf[float64], memoryOf[Float16], memoryOf[BFloat16])
}

// memory is what the calls of TestMemory get.
type memory[T Element] struct {
	logits, targets, dst *fence
	before               []byte // what dst was like
}

func newMemory[T Element](tb testing.TB, elements int) *memory[T] {
	size := elements * sizeOf[T]()
	m := &memory[T]{newFence(tb, size), newFence(tb, size), newFence(tb, size), nil}
	g := generator(41)
	for i, x := 0, viewAs[T](m.logits.mem); i < len(x); i++ {
		x[i] = element[T](9 * g.uniform())
	}
	for i, x := 0, viewAs[T](m.targets.mem); i < len(x); i++ {
		x[i] = element[T](g.uniform()*.5 + .5)
	}
	m.logits.readOnly(tb)
	m.targets.readOnly(tb)
	m.before = slices.Repeat([]byte{canary}, len(m.dst.mem))
	copy(m.dst.mem, m.before)
	return m
}

func memoryOf[T Element](t *testing.T) {
	short, long := newMemory[T](t, 33*1024), newMemory[T](t, 1<<16)
	g := generator(42)
	check := func(m *memory[T], classes, rows int) {
		y := g.targets(rows, classes)
		layouts := []layout{contiguous(classes), {classes, classes + 1 + classes%9, 1}}
		for inner := 2; inner <= rows; inner++ {
			if rows%inner == 0 {
				layouts = append(layouts, layout{classes, classes, inner})
			}
		}
		for form, options := range kernelForms(&g, classes) {
			for _, kernel := range Kernels() {
				if kernel == "go" && classes%5 != 0 {
					continue // slow, and the same loop for all
				}
				c := criterion(t, append(options, Kernel(kernel), Workers(1))...)
				for _, l := range layouts {
					for s := atStart; s <= atEnd; s++ {
						require.NoError(t, m.check(c, l, s, y, form == "classwise"), "K=%d rows=%d %s %s %+v %s", classes, rows, kernel, form, l, s)
					}
				}
			}
		}
	}
	for _, size := range memorySizes(testing.Short()) {
		check(short, size[0], size[1])
	}
	for _, size := range longSizes(testing.Short()) {
		check(long, size[0], size[1])
	}
}

// check makes all calls with rows in a layout at a side.
func (m *memory[T]) check(c *Criterion, l layout, s side, y []int64, dense bool) error {
	size := sizeOf[T]()
	n := len(y) * l.classes
	if l.inner == 1 {
		n = (len(y)-1)*l.stride + l.classes // no padding after the last row
	}
	batch := func(f *fence) Batch[T] { return Batch[T]{viewAs[T](f.place(n*size, s)), l.classes, l.stride, l.inner} }
	x, target, dst := batch(m.logits), batch(m.targets), batch(m.dst)

	start := int(uintptr(base(dst.Data)) - uintptr(base(m.dst.mem)))
	var parts []span
	if l.inner > 1 {
		parts = []span{{start, n * size}}
	} else {
		for i := range y {
			parts = append(parts, span{start + i*l.stride*size, l.classes * size})
		}
	}
	inPlace := func() {
		for _, p := range parts {
			copy(m.dst.mem[p.offset:p.offset+p.n], m.logits.mem[p.offset:])
		}
	}
	calls := map[string]func() (Result, error){
		"Forward":       func() (Result, error) { return Forward(c, x, y) },
		"Grad":          func() (Result, error) { return Grad(c, dst, x, y) },
		"Grad in place": func() (Result, error) { inPlace(); return Grad(c, dst, dst, y) },
	}
	if dense {
		calls["ForwardDist"] = func() (Result, error) { return ForwardDist(c, x, target) }
		calls["GradDist"] = func() (Result, error) { return GradDist(c, dst, x, target) }
		calls["GradDist in place"] = func() (Result, error) { inPlace(); return GradDist(c, dst, dst, target) }
	}
	for name, call := range calls {
		var err error
		if f := fault(func() { _, err = call() }); f != nil || err != nil {
			return fmt.Errorf("%s: %w", name, firstError(f, err))
		}
		if !m.dst.unchanged(m.before, parts...) {
			return fmt.Errorf("%s: written outside of the rows", name)
		}
	}
	return nil
}

// firstError is the first that is not nil.
func firstError(errs ...error) error {
	return errs[slices.IndexFunc(errs, func(err error) bool { return err != nil })]
}

// TestIgnoredRowIsNotTouched has an ignored row in a guard page.
func TestIgnoredRowIsNotTouched(t *testing.T) {
	for _, kernel := range Kernels() {
		for _, classes := range []int{1, 10, 100, 1000, 9000} {
			f := newFence(t, 4*classes)
			row := viewAs[float32](f.place(4*classes, atEnd))
			x := Rows(unsafe.Slice(&row[0], 2*classes), classes) // the second row lies beyond
			c := criterion(t, Kernel(kernel), Workers(1), IgnoreIndex(-1), Top1(), MaskNegInf())
			dst := Rows(make([]float32, 2*classes), classes)
			require.NoError(t, fault(func() { _, _ = Grad(c, dst, x, []int{0, -1}) }), "%s K=%d", kernel, classes)
			require.Error(t, fault(func() { _, _ = Grad(c, dst, x, []int{0, 0}) }), "%s K=%d: a row beyond is not noticed", kernel, classes)
		}
	}
}

// TestWorkerMemory gives a worker's own memory an end at a guard page: kernels may not touch more than the worker has.
func TestWorkerMemory(t *testing.T) {
	everyType(t, workerMemory[float32, float32], workerMemory[float64, float64], workerMemory[Float16, float32], workerMemory[BFloat16, float32])
}

func workerMemory[T Element, F real](t *testing.T) {
	g := generator(43)
	fences := map[string]*fence{}
	sizes := [][2]int{{1, 9}, {2, 300}, {3, 1000}, {10, 130}, {100, 163}, {511, 33}, {513, 7}, {1000, 19}, {4096, 9}}
	if testing.Short() {
		sizes = [][2]int{{1, 9}, {3, 1000}, {100, 163}, {513, 7}, {4096, 9}}
	}
	for _, size := range append(sizes, longSizes(testing.Short())...) {
		classes, rows := size[0], size[1]
		x, target := make([]T, rows*classes), make([]T, rows*classes)
		for i := range x {
			x[i], target[i] = element[T](g.uniform()), element[T](1)
		}
		x[g.intn(len(x))] = element[T](negInf) // MaskNegInf has memory of its own
		dst, y := make([]T, len(x)), g.targets(rows, classes)
		prior := slices.Repeat([]float64{1 / float64(classes)}, classes)
		for _, kernel := range Kernels() {
			for form, options := range map[string][]Option{"uniform": nil, "prior": {Prior(prior)}, "mask": {MaskNegInf()}} {
				c := criterion(t, append(options, Smoothing(.1), Workers(1), Kernel(kernel))...)
				calls := map[string]func() (Result, error){}
				for _, inner := range []int{1, rows} {
					batch := func(data []T) Batch[T] { return Batch[T]{data, classes, classes, inner} }
					suffix := fmt.Sprintf(" inner=%d", inner)
					calls["Forward"+suffix] = func() (Result, error) { return Forward(c, batch(x), y) }
					calls["Grad"+suffix] = func() (Result, error) { return Grad(c, batch(dst), batch(x), y) }
					calls["ForwardDist"+suffix] = func() (Result, error) { return ForwardDist(c, batch(x), batch(target)) }
					calls["GradDist"+suffix] = func() (Result, error) { return GradDist(c, batch(dst), batch(x), batch(target)) }
				}
				for name, call := range calls {
					about := fmt.Sprintf("%s %s %s K=%d rows=%d: more touched than the worker has", name, kernel, form, classes, rows)
					// The first call says how much memory the worker wants, the second has no more than that.
					w := &worker[T, F]{}
					require.NoError(t, withWorker(w, call), about)
					fenceSlices(t, w, fences)
					require.NoError(t, withWorker(w, call), about)
				}
			}
		}
	}
}

// withWorker makes a call by a worker.
func withWorker[T Element, F real](w *worker[T, F], call func() (Result, error)) error {
	pool := &workers[kindOf[T]()]
	for range 100 { // the pool may prefer another worker when this goroutine moves, or drop this one
		for pool.Get() != nil {
		}
		pool.Put(w)
		var err error
		if f := fault(func() { _, err = call() }); f != nil || err != nil {
			return firstError(f, err)
		}
		if pool.Get() == any(w) {
			return nil
		}
	}
	return fmt.Errorf("the pool never gave the worker")
}

// TestNonTemporalIsUsed says which gradients are stored by non-temporal stores. That they are right is TestNonTemporal's.
func TestNonTemporalIsUsed(t *testing.T) {
	const n, classes, inner = 2048, 40, 64
	held := cachesHold
	defer func() { cachesHold = held }()
	x, y := make([]float32, n*classes), make([]uint8, n)
	dst := make([]float32, len(x)+2*cacheLine)
	lines := dst[-uintptr(base(dst))%cacheLine/4:]
	dst, half := lines[:len(x)], lines[8:][:len(x)]
	for _, kernel := range Kernels() {
		c := criterion(t, Workers(1), Kernel(kernel))
		rows := func(dst Batch[float32], holds int, parallel bool) bool {
			cachesHold = holds
			w := &worker[float32, float32]{}
			w.prepare(&job[float32]{c: c, logits: Rows(x, classes), dst: dst, index: true, rows: n, g: 1, parallel: parallel}, &c.v32)
			return len(w.apart) != 0
		}
		require.Equal(t, kernel == "avx2", rows(Rows(dst, classes), 2*4*len(x)-1, true), kernel)
		require.False(t, rows(Rows(dst, classes), 2*4*len(x), true), "%s: in the caches", kernel)
		require.False(t, rows(Rows(dst, classes), 0, false), "%s: one worker", kernel)
		require.False(t, rows(Rows(x, classes), 0, true), "%s: in place", kernel)
		require.False(t, rows(RowsStride(dst, classes, classes+1), 0, true), "%s: with padding", kernel)

		planes := func(dst []float32, holds int) bool {
			cachesHold = holds
			w := &worker[float32, float32]{}
			require.NoError(t, withWorker(w, func() (Result, error) { return Grad(c, Planes(dst, classes, inner), Planes(x, classes, inner), y) }))
			return w.nonTemporal
		}
		require.Equal(t, kernel != "go", planes(dst, 2*4*len(x)-1), kernel)
		require.False(t, planes(dst, 2*4*len(x)), "%s: in the caches", kernel)
		require.False(t, planes(half, 0), "%s: half cache lines", kernel)
		require.False(t, planes(x, 0), "%s: in place", kernel)
	}
}

// fenceSlices moves a worker's slices to guard pages. None of them holds pointers.
func fenceSlices[T Element, F real](tb testing.TB, w *worker[T, F], fences map[string]*fence) {
	fenceFields(tb, reflect.ValueOf(w).Elem(), fences)
}

func fenceFields(tb testing.TB, v reflect.Value, fences map[string]*fence) {
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		switch {
		case f.Kind() == reflect.Struct:
			fenceFields(tb, f, fences)
			continue
		case f.Kind() != reflect.Slice || f.Len() == 0:
			continue
		}
		n := f.Len() * int(f.Type().Elem().Size())
		if fences[name] == nil || len(fences[name].mem) < n {
			fences[name] = newFence(tb, n)
		}
		p := unsafe.Pointer(unsafe.SliceData(fences[name].place(n, atEnd)))
		f = reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem() // for unexported fields to be set
		f.Set(reflect.SliceAt(f.Type().Elem(), p, f.Len()))
	}
}

// rowOps are what kernelMemory knows the arguments of.
var rowOps = []op{opMax, opSum, opSumExp, opScale, opFold, opFinish, opFinishGrad}

// TestKernelMemory calls every kernel in assembly with each of its arguments, and their struct, against guard pages.
func TestKernelMemory(t *testing.T) {
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) {
			needs(t, k)
			if !slices.Contains(rowOps, k.op) {
				t.Skip("NOT TESTED here: labels by TestLabelMemory, others through the public API by TestMemory and TestWorkerMemory")
			}
			m := newKernelMemory(t)
			for n := k.least(); n <= 1024; n++ {
				if testing.Short() && n > 130 && n%61 != 0 {
					continue
				}
				for s := atStart; s <= atEnd; s++ {
					for _, pad := range []int{0, 5} {
						require.NoError(t, m.call(k, n, 1+n%5, pad, s, 0), "n=%d pad=%d %s", n, pad, s)
					}
				}
			}
		})
	}
}

// needs skips the test of a kernel that this machine cannot run.
func needs(t *testing.T, k kernel) {
	t.Helper()
	if !slices.Contains(available, k.isa) {
		t.Skipf("NOT TESTED: this machine has no %s", k.isa)
	}
}

// kernelMemory are the arguments of kernels.
type kernelMemory struct {
	args    *fence
	in, out map[string]*fence
	before  []byte
}

func newKernelMemory(tb testing.TB) *kernelMemory {
	const size = 5 * (1024 + 5) * 8
	m := &kernelMemory{args: newFence(tb, int(unsafe.Sizeof(args{}))), in: map[string]*fence{}, out: map[string]*fence{}}
	m.before = slices.Repeat([]byte{canary}, len(newFence(tb, size).mem))
	for _, name := range []string{"x", "eIn", "t", "u", "w", "lanes", "labels"} {
		m.in[name] = newFence(tb, size)
	}
	for _, name := range []string{"e", "dst", "lanesE", "lanesD", "lanesA", "sums"} {
		m.out[name] = newFence(tb, size)
		copy(m.out[name].mem, m.before)
	}
	for name, f := range m.in {
		if name == "labels" {
			clear(f.mem)
		}
		f.readOnly(tb)
	}
	return m
}

// call calls a kernel for rows of n classes, with so many elements between them. It tells the kernel of more classes than
// there are, for a test of this test.
func (m *kernelMemory) call(k kernel, n, rows, pad int, s side, more int) error {
	sizes := [...]int{4, 8, 2, 2}
	sizeT, sizeF := sizes[k.element], 4
	if k.element == float64Kind {
		sizeF = 8
	}
	a := &viewAs[args](m.args.place(int(unsafe.Sizeof(args{})), s))[0]
	*a = args{}
	may := map[string][]span{}
	// lies gives a field memory for so many strings of bytes, a stride apart, that end with the last of them.
	lies := func(f *fence, bytes, strings, stride int) (unsafe.Pointer, []span) {
		p := f.place((strings-1)*stride+bytes, s)
		start := int(uintptr(base(p)) - uintptr(base(f.mem)))
		parts := make([]span, strings)
		for i := range parts {
			parts[i] = span{start + i*stride, bytes}
		}
		return base(p), parts
	}
	in := func(name string, bytes, strings, stride int) unsafe.Pointer {
		p, _ := lies(m.in[name], bytes, strings, stride)
		return p
	}
	out := func(name string, bytes, strings, stride int) (p unsafe.Pointer) {
		p, may[name] = lies(m.out[name], bytes, strings, stride)
		return p
	}
	a.xStride, a.tStride, a.dstStride, a.eStride = (n+pad)*sizeT, (n+pad)*sizeT, (n+pad)*sizeT, (n+pad)*sizeF
	a.step, a.eStep, a.n, a.rows, a.first = 1, 1, n+more, rows, (n*3)%(maxSlots-rows)
	a.rowBlocks = (n*sizeF + coef.BlockBytes - 1) / coef.BlockBytes
	a.x, a.t = in("x", n*sizeT, rows, a.xStride), in("t", n*sizeT, rows, a.tStride)
	a.u, a.w, a.labels = in("u", n*sizeF, 1, 0), in("w", n*sizeF, 1, 0), in("labels", 4*rows, 1, 0)
	a.dst = out("dst", n*sizeT, rows, a.dstStride)
	if k.op == opScale {
		a.e = in("eIn", n*sizeF, rows, a.eStride)
	} else {
		a.e = out("e", n*sizeF, rows, a.eStride)
	}
	blocks := rows * a.rowBlocks
	for name, p := range map[string]*unsafe.Pointer{"lanesE": &a.lanesE, "lanesD": &a.lanesD, "lanesA": &a.lanesA} {
		*p = out(name, blocks*coef.LaneBytes, 1, 0)
	}
	a.folds, a.blocks = rows, 1+n%3
	a.ahead = rows - coef.RowsAhead
	whole := roundUp(rows, foldRows)
	a.lanes, a.sums = in("lanes", whole*a.blocks*coef.LaneBytes, 1, 0), out("sums", whole*8, 1, 0)
	if err := fault(func() { k.call(a) }); err != nil {
		return err
	}
	for name, f := range m.out {
		if !f.unchanged(m.before, may[name]...) {
			return fmt.Errorf("%s written outside of the rows", name)
		}
	}
	return nil
}

// TestLabelMemory copies labels from and to memory between guard pages.
func TestLabelMemory(t *testing.T) {
	const most = 100
	from, to := newFence(t, 8*most), newFence(t, 4*most)
	before := slices.Clone(to.mem)
	from.readOnly(t)
	for _, i := range available {
		for n := range most {
			for s := atStart; s <= atEnd; s++ {
				labels := viewAs[int32](to.place(4*n, s))
				require.NoError(t, fault(func() { kernelLabels(i, &args{}, labels, viewAs[int64](from.place(8*n, s)), 10) }))
				require.NoError(t, fault(func() { kernelLabels(i, &args{}, labels, viewAs[uint32](from.place(4*n, s)), 10) }))
				start := map[side]int{atEnd: len(to.mem) - 4*n}[s]
				require.True(t, to.unchanged(before, span{start, 4 * n}), "%v, %d labels: written elsewhere", i, n)
			}
		}
	}
}

// TestTurnedMemory has few classes on an axis that is not last, and masks, before a guard page.
func TestTurnedMemory(t *testing.T) {
	for _, kernel := range Kernels() {
		for classes := 1; classes <= 9; classes++ {
			const inner = 16
			f, g := newFence(t, 8*classes*inner), newFence(t, 8*classes*inner)
			x, dst := viewAs[float64](f.place(8*classes*inner, atEnd)), viewAs[float64](g.place(8*classes*inner, atEnd))
			c := criterion(t, Kernel(kernel), Workers(1), Smoothing(.1), MaskNegInf())
			require.NoError(t, fault(func() { _, _ = Grad(c, Planes(dst, classes, inner), Planes(x, classes, inner), make([]int, inner)) }), "%s K=%d", kernel, classes)
		}
	}
}

// TestMemoryNotices plants faults that the tests of this file must notice.
func TestMemoryNotices(t *testing.T) {
	t.Run("touch", func(t *testing.T) {
		f := newFence(t, 100)
		for s := atStart; s <= atEnd; s++ {
			b := f.place(10, s)
			require.NoError(t, fault(func() { b[0], b[9] = 1, 1 }))
		}
		before, after := unsafe.Add(base(f.mem), -1), unsafe.Add(base(f.mem), len(f.mem))
		for _, p := range []unsafe.Pointer{before, after} {
			require.Error(t, fault(func() { sink += *(*byte)(p) }), "read")
			require.Error(t, fault(func() { *(*byte)(p) = 1 }), "write")
		}
		f.readOnly(t)
		require.Error(t, fault(func() { f.mem[0] = 1 }), "write to what is read-only")
	})
	t.Run("padding", func(t *testing.T) {
		f := newFence(t, 100)
		before := slices.Clone(f.mem)
		f.mem[20], f.mem[29] = 1, 1
		require.True(t, f.unchanged(before, span{20, 10}))
		f.mem[20], f.mem[30] = 1, 1
		require.False(t, f.unchanged(before, span{20, 10}))
	})
	t.Run("worker", func(t *testing.T) {
		w := &worker[float32, float32]{lanes: make([]float32, 8)}
		fenceSlices(t, w, map[string]*fence{})
		require.Error(t, fault(func() { sink += byte(*at[float32](base(w.lanes), 8)) }))
	})
	for _, k := range kernels { // one class more than there is memory for
		if !slices.Contains(rowOps[:4], k.op) {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			needs(t, k)
			m := newKernelMemory(t)
			for _, n := range []int{k.least(), 17, 31, 32, 33, 127, 128} {
				require.NoError(t, m.call(k, n, 1, 0, atEnd, 0), "n=%d", n)
				require.Error(t, m.call(k, n, 1, 0, atEnd, 1), "n=%d", n)
			}
		})
	}
}

var sink byte
