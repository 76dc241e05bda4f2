package lsr

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// rows is the number of rows, if the shape is good: Stride ≥ Classes and so on.
func (b Batch[T]) rows(name string) (int, error) {
	n := len(b.Data)
	switch {
	case b.Classes < 1 || b.Classes > math.MaxInt32:
		return 0, fmt.Errorf("lsr: %s: number of classes must be in [1, 2³¹), got %d", name, b.Classes)
	case b.Inner < 1:
		return 0, fmt.Errorf("lsr: %s: number of inner positions must be at least 1, got %d", name, b.Inner)
	case b.Stride < b.Classes:
		return 0, fmt.Errorf("lsr: %s: row stride must be at least the %d classes, got %d", name, b.Classes, b.Stride)
	case b.Inner > 1 && b.Stride != b.Classes:
		return 0, fmt.Errorf("lsr: %s: a row stride (%d) goes with a last class axis only, got %d inner positions", name, b.Stride, b.Inner)
	case n == 0:
		return 0, nil
	case b.Inner > 1:
		if b.Inner > n/b.Classes || n%(b.Classes*b.Inner) != 0 {
			return 0, fmt.Errorf("lsr: %s: %d elements are no whole number of [%d classes, %d positions]", name, n, b.Classes, b.Inner)
		}
		return n / b.Classes, nil
	}
	// The last row may lack its padding, or have it.
	rows, rest := n/b.Stride, n%b.Stride
	if rest >= b.Classes {
		rows, rest = rows+1, 0
	}
	if rest != 0 {
		return 0, fmt.Errorf("lsr: %s: %d elements are no whole number of rows of %d classes, %d apart", name, n, b.Classes, b.Stride)
	}
	return rows, nil
}

// row is where row i starts.
func (b *Batch[T]) row(i int) unsafe.Pointer { return b.rowAt(i, i%b.Inner) }

// rowAt is row, where its position modulo Inner is known.
func (b *Batch[T]) rowAt(i, position int) unsafe.Pointer {
	start := i * b.Stride
	if b.Inner > 1 {
		start = (i-position)*b.Classes + position
	}
	return unsafe.Pointer(at[T](unsafe.Pointer(unsafe.SliceData(b.Data)), start))
}

// rowBytes is the distance from a row to the next, within a block of inner positions.
func (b *Batch[T]) rowBytes() int {
	size := sizeOf[T]()
	if b.Inner > 1 {
		return size
	}
	return b.Stride * size
}

// overlaps reports whether two slices share memory.
func overlaps[T Element](a, b []T) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	size := unsafe.Sizeof(a[0])
	p, q := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return p < q+uintptr(len(b))*size && q < p+uintptr(len(a))*size
}

// job is one call, cut into blocks of rows that workers take one after another.
type job[T Element] struct {
	c                    *Criterion
	logits, targets, dst Batch[T]
	index                bool
	labels               []int32 // index targets; −1: ignored
	perRow               PerRow
	rows, ignored        int
	g, gz                float64 // what the gradient is multiplied by: 1 / denominator

	args      args // for kernels that come before there is a worker
	parallel  bool // on more than one goroutine
	blockRows int
	blocks    []partial
	next      atomic.Int64
	workers   sync.WaitGroup
	run       func() // work, made once: starting a goroutine with it allocates nothing
}

// labelPad is how many labels kernels may read beyond the last.
const labelPad = 16

// partial is what a block of rows adds to the result.
type partial struct {
	loss, z, nll float64
	correct      int
}

var jobs [kinds]sync.Pool // of *job[T], by kind of T

func newJob[T Element]() *job[T] {
	if j, ok := jobs[kindOf[T]()].Get().(*job[T]); ok {
		return j
	}
	j := &job[T]{}
	j.run = func() {
		defer j.workers.Done()
		j.work()
	}
	return j
}

// free keeps the job's memory for the next call, but none of the caller's.
func (j *job[T]) free() {
	j.c, j.logits, j.targets, j.dst, j.perRow = nil, Batch[T]{}, Batch[T]{}, Batch[T]{}, PerRow{}
	jobs[kindOf[T]()].Put(j)
}

func index[T Element, L Label](c *Criterion, dst, logits Batch[T], targets []L, perRow []PerRow, grad bool) (Result, error) {
	j := newJob[T]()
	r, err := indexJob(j, c, dst, logits, targets, perRow, grad)
	j.free() // not deferred: after a panic, other goroutines may still have it
	return r, err
}

func indexJob[T Element, L Label](j *job[T], c *Criterion, dst, logits Batch[T], targets []L, perRow []PerRow, grad bool) (Result, error) {
	if err := j.check(c, dst, logits, perRow, grad); err != nil {
		return Result{}, err
	}
	if len(targets) != j.rows {
		return Result{}, fmt.Errorf("lsr: %d targets for %d rows of logits", len(targets), j.rows)
	}
	j.index = true
	j.labels = slices.Grow(j.labels[:0], j.rows+labelPad)[:j.rows]
	ignored, weight, err := lookUp(j, targets)
	if err != nil {
		return Result{}, err
	}
	return j.reduce(ignored, weight), nil
}

// lookUp makes labels of index targets, and counts the ignored rows and the weights of the others.
func lookUp[T Element, L Label](j *job[T], targets []L) (ignored int, weight float64, err error) {
	c, classes := j.c, j.logits.Classes
	if !c.ignores && c.weights == nil {
		n, ok := kernelLabels(c.isa, &j.args, j.labels, targets, classes)
		if ok && copyLabels(j.labels[n:], targets[n:], classes) {
			return 0, float64(j.rows), nil
		}
	}
	for i, y := range targets {
		switch {
		case c.ignores && isIgnored(y, c.ignore):
			j.labels[i] = -1
			ignored++
		case y < 0 || uint64(y) >= uint64(classes):
			v := int64(y)
			if y > 0 && v < 0 {
				v = math.MaxInt64
			}
			return 0, 0, &TargetError{i, v, classes}
		default:
			j.labels[i] = int32(y)
			if c.weights != nil {
				weight += c.weights[y]
			}
		}
	}
	if c.weights == nil {
		weight = float64(j.rows - ignored)
	}
	return ignored, weight, nil
}

// kernelLabels is copyLabels by a kernel, of the first n labels.
func kernelLabels[L Label](i isa, a *args, to []int32, from []L, classes int) (n int, ok bool) {
	const eight, most = 8, 1 << 14 // a kernel takes eights, and not so many that others have to wait
	size := sizeOf[L]()
	if i == plainGo || size < 4 || len(from) < eight {
		return 0, true
	}
	like := float32Kind // what is as wide as a label
	if size == 8 {
		like = float64Kind
	}
	raceRead(base(from), len(from)*size)
	a.n, ok = classes, true
	for ok && n+eight <= len(from) {
		a.rows = min(most, (len(from)-n)&^(eight-1))
		a.x, a.labels = unsafe.Pointer(&from[n]), unsafe.Pointer(&to[n])
		call(i, like, opLabels, a)
		n, ok = n+a.rows, a.bad == 0
	}
	a.view = view{} // none of the caller's memory is kept
	return n, ok
}

// isIgnored compares a label of any type to the ignore index.
func isIgnored[L Label](y L, ignore int64) bool {
	return int64(y) == ignore && (y < 0) == (ignore < 0)
}

func distribution[T Element](c *Criterion, dst, logits, targets Batch[T], perRow []PerRow, grad bool) (Result, error) {
	j := newJob[T]()
	r, err := distributionJob(j, c, dst, logits, targets, perRow, grad)
	j.free()
	return r, err
}

func distributionJob[T Element](j *job[T], c *Criterion, dst, logits, targets Batch[T], perRow []PerRow, grad bool) (Result, error) {
	if err := j.check(c, dst, logits, perRow, grad); err != nil {
		return Result{}, err
	}
	if err := j.matches("targets", targets); err != nil {
		return Result{}, err
	}
	if grad && overlaps(dst.Data, targets.Data) {
		return Result{}, fmt.Errorf("lsr: destination overlaps the targets")
	}
	j.index = false
	j.targets = targets
	return j.reduce(0, float64(j.rows)), nil
}

// check takes over the arguments that all calls have.
func (j *job[T]) check(c *Criterion, dst, logits Batch[T], perRow []PerRow, grad bool) (err error) {
	if c == nil {
		return errNoCriterion
	}
	if j.rows, err = logits.rows("logits"); err != nil {
		return err
	}
	if err = c.fits(logits.Classes); err != nil {
		return err
	}
	j.c, j.logits, j.dst = c, logits, Batch[T]{}
	if len(perRow) > 1 {
		return fmt.Errorf("lsr: at most one PerRow, got %d", len(perRow))
	}
	j.perRow = PerRow{}
	if len(perRow) == 1 {
		j.perRow = perRow[0]
	}
	p := &j.perRow
	if p.Loss != nil && len(p.Loss) != j.rows {
		return fmt.Errorf("lsr: %d row losses for %d rows of logits", len(p.Loss), j.rows)
	}
	if p.LSE != nil && len(p.LSE) != j.rows {
		return fmt.Errorf("lsr: %d row log-sum-exps for %d rows of logits", len(p.LSE), j.rows)
	}
	if p.Upstream != nil && len(p.Upstream) != j.rows && len(p.Upstream) != 1 {
		return fmt.Errorf("lsr: %d upstream factors for %d rows of logits, expected one or one for each", len(p.Upstream), j.rows)
	}
	if !grad {
		return nil
	}
	if err := j.matches("destination", dst); err != nil {
		return err
	}
	if overlaps(dst.Data, logits.Data) && (&dst.Data[0] != &logits.Data[0] || dst.Stride != logits.Stride) {
		return fmt.Errorf("lsr: destination overlaps the logits without being the same memory")
	}
	j.dst = dst
	return nil
}

// matches says whether a batch has the shape of the logits.
func (j *job[T]) matches(name string, b Batch[T]) error {
	n, err := b.rows(name)
	if x := &j.logits; err == nil && (n != j.rows || b.Classes != x.Classes || b.Inner != x.Inner) {
		err = fmt.Errorf("lsr: %s: expected %d rows of %d classes with %d inner positions, as logits have, got %d of %d with %d",
			name, j.rows, x.Classes, x.Inner, n, b.Classes, b.Inner)
	}
	return err
}

// A block of rows is what a worker takes at a time, and what the loss is added up over. It depends on K only.
const (
	blockElements = 1 << 15
	maxBlockRows  = 1 << 10
	minBlockRows  = 16
	// minWork is how many logits make another worker worth its start.
	minWork = 1 << 15
)

// blockRowsOf is the number of rows of a block: whole chunks of as many rows as there are slots, or fewer rows.
func blockRowsOf(classes int) int {
	rows, unit := blockElements/classes, minBlockRows
	if rows >= maxSlots {
		unit = maxSlots
	}
	return max(minBlockRows, min(maxBlockRows, rows&^(unit-1)))
}

// reduce computes all rows and adds them up. weight is Σ w_y over the rows not ignored.
func (j *job[T]) reduce(ignored int, weight float64) Result {
	c, kept := j.c, j.rows-ignored
	j.ignored = ignored
	den, denz := 1.0, 1.0
	if c.reduction == Mean {
		den, denz = weight, float64(kept)
		if c.denominator != 0 {
			den, denz = c.denominator, c.denominator
		}
	}
	j.g, j.gz = 0, 0
	if den != 0 && kept != 0 {
		j.g, j.gz = 1/den, 1/denz
	}
	j.blockRows = blockRowsOf(j.logits.Classes)
	n := (j.rows + j.blockRows - 1) / j.blockRows
	j.blocks = slices.Grow(j.blocks[:0], n)[:n]
	j.next.Store(0)
	j.race()

	workers := c.workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, n, 1+j.rows*j.logits.Classes/minWork)
	j.parallel = workers > 1
	for range workers - 1 {
		j.workers.Add(1)
		go j.run()
	}
	j.work()
	j.workers.Wait()

	r := Result{Rows: j.rows, Ignored: ignored}
	sum, z := 0.0, 0.0
	for i := range j.blocks {
		p := &j.blocks[i]
		sum += p.loss
		z += p.z
		r.NLL += p.nll
		r.Correct += p.correct
	}
	switch {
	case !j.index:
		r.NLL = math.NaN()
	case kept == 0 && !c.emptyNaN:
		r.NLL = 0
	default:
		r.NLL /= float64(kept)
	}
	switch {
	case c.reduction == None:
		r.Loss = math.NaN()
	case j.g == 0 && c.reduction == Mean && c.denominator == 0:
		if c.emptyNaN {
			r.Loss = math.NaN()
		}
	case den == denz:
		r.Loss = (sum + z) / den
	default:
		r.Loss = sum/den + z/denz
	}
	return r
}

// work takes blocks of rows until there are none.
func (j *job[T]) work() {
	if kindOf[T]() == float64Kind {
		work(j, &j.c.v64)
	} else {
		work(j, &j.c.v32)
	}
}

// zero writes zeros to row i.
func (b *Batch[T]) zero(i int) {
	p := b.row(i)
	for k := range b.Classes {
		*at[T](p, k*b.Inner) = 0
	}
}
