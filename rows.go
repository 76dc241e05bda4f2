package lsr

import (
	"math"
	"sync"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// A worker takes rows in chunks, and each chunk through the kernels: maxima, sums, folds, finish, and scale for a gradient.
// How many rows a chunk has changes no bit.

// chunkBytes is about what a chunk's rows take, in the type that they are computed in: little enough to stay in the second cache.
const chunkBytes = 1 << 17

// segmentRows is how many segments of a long row kernels take at once: others must not wait.
const segmentRows = maxSlots / 2

// worker is one goroutine's memory.
type worker[T Element, F real] struct {
	args
	isa         isa
	least       int // classes that kernels for rows want
	form        form
	single      bool        // rows are finished in float32, partly
	kernelsFor  specialKey  // what the next three are for
	segment     int         // classes of a row, or of a whole segment of it,
	kernels     kernelTable // their kernels,
	lastKernels kernelTable // and those for its last segment
	want        shape
	shape       shape                      // of the chunk: what is wanted if there are rows enough
	position    int                        // of its first row, modulo Inner
	common                                 // what slots have
	own         bool                       // the last job overwrote some of that by what its rows have
	cleared     bool                       // slots have been cleared since main was set
	nonTemporal bool                       // the chunk's gradients are stored by non-temporal stores
	planeX      []F                        // a chunk's logits, and their exponentials, with a vector of rows for each class
	planeT      []F                        // its distribution targets
	planeLanes  []F                        // of sums over planes, and zeros
	top         [maxSlots]int32            // targets, or −1 as soon as they are known not to be on top
	topLogit    [maxSlots]float64          // their logits
	none        [maxSlots + labelPad]int32 // labels of distribution targets: 0
	constW      []F                        // 1−ε and ε/K for each class, where distribution targets have no vectors
	constU      []F
	zeroT       []T // zeros
	zeroW       []F
	turned      turning[T, F]
	pairs       pairs[F]
	lanes       []F       // of all blocks of a chunk
	folded      []F       // their sums
	scales      []float64 // of the segments of a long row: exponentials × scale are relative to the row's maximum
	eBuffer     []F       // exponentials of a chunk, where the gradient's own memory is too narrow for them
	apart       []T       // gradients of a chunk of rows, to be stored by non-temporal stores
	masked      []bool    // whether rows of a chunk have masked classes; empty if none has
	uBuffer     []F       // coefficients of a chunk's rows, of which those of masked ones count
}

// common is what all slots of a job have, unless its rows have their own.
type common struct {
	used              int     // how many there are
	main0             float64 // main, of rows without weights
	eu0, uy0, g0, gz0 float64
	perCoef           float64 // what a coefficient counts in the gradient
}

// fill gives it to them, unless they have it from the job before. own says whether this job will overwrite it.
func (w *worker[T, F]) fill(c common, own bool) {
	if c != w.common || w.own {
		w.common, w.cleared = c, true
		for s := range c.used {
			w.eu[s], w.uy[s], w.gz[s] = c.eu0, c.uy0, c.gz0
			w.setG(s, c.g0)
		}
	}
	w.own = own
}

// setG sets a slot's factor of the gradient.
func (w *worker[T, F]) setG(s int, g float64) {
	of[F](&w.g)[s], of[F](&w.smooth)[s] = F(g), F(float64(g*w.perCoef))
}

// vectors are a criterion's vectors in the type that rows are computed in.
type vectors[F real] struct {
	coef []F // u_k·w_k; nil: 1/K
	u, w []F // ε·u_k·w_k and (1−ε)·w_k, for distribution targets
}

var workers [kinds]sync.Pool // of *worker, by kind of element

// grow is a slice of length n, with the memory of s if that is enough.
func grow[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}

// base is the address of a slice's memory.
func base[E any](s []E) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

// work takes blocks of rows until there are none.
func work[T Element, F real](j *job[T], v *vectors[F]) {
	pool := &workers[kindOf[T]()]
	w, ok := pool.Get().(*worker[T, F])
	if !ok {
		w = &worker[T, F]{}
	}
	w.prepare(j, v)
	for {
		b := int(j.next.Add(1)) - 1
		if b >= len(j.blocks) {
			break
		}
		lo := b * j.blockRows
		if hi := min(lo+j.blockRows, j.rows); w.pairs.on {
			j.blocks[b] = w.pairBlock(j, lo, hi)
		} else {
			j.blocks[b] = w.block(j, lo, hi)
		}
	}
	w.view, w.plane = view{}, nil // none of the caller's memory is kept
	pool.Put(w)
}

// prepare sets what all rows of a job have in common.
func (w *worker[T, F]) prepare(j *job[T], v *vectors[F]) {
	c, classes := j.c, j.logits.Classes
	w.isa, w.lambda, w.step = c.isa, c.zloss, j.logits.Inner
	w.least = leastBytes[w.isa] / sizeOf[F]()
	w.view = view{}
	w.findKernels(specialKey{c.isa, kindOf[T](), classes})
	if w.pairs.on = w.takesPairs(j, v); w.pairs.on {
		w.turned.on = false
		w.preparePairs(j)
		return
	}
	eu, uy := c.smoothing*c.coefSum, c.smoothing/float64(classes)
	perCoef := uy
	w.single = w.takesSingle(j, v)
	w.keep, w.eps = 1-c.smoothing, c.smoothing
	switch {
	case !j.index:
		w.form, w.epsD, perCoef, eu = dense, 1, 1, 0
		w.w, w.u = base(v.w), base(v.u)
		if v.coef == nil {
			w.constant(classes, F(1-c.smoothing), F(uy))
			w.w, w.u = base(w.constW), base(w.constU)
		}
	case v.coef == nil:
		w.form, w.epsD = uniform, uy
	default:
		w.form, w.epsD, perCoef = classwise, c.smoothing, c.smoothing
		w.u = base(v.coef)
	}
	if w.form != dense && w.isa != plainGo && (w.form == classwise || c.masks()) {
		// To kernels for rows this is dense, with targets and factors of 0.
		w.zeroT, w.zeroW = grow(w.zeroT, classes), grow(w.zeroW, classes)
		w.t, w.w, w.tStride = base(w.zeroT), base(w.zeroW), 0
	}
	g, gz := j.g, j.gz
	if up := j.perRow.Upstream; len(up) == 1 {
		g, gz = upstream(g, up[0]), upstream(gz, up[0])
	}
	w.fill(common{
		used:  min(maxSlots, j.rows+coef.RowLanes) + slotPad,
		main0: 1 - c.smoothing, eu0: eu, uy0: uy, g0: g, gz0: gz,
		perCoef: perCoef,
	}, v.coef != nil || c.masks() || len(j.perRow.Upstream) > 1)
	w.cleared = w.cleared || !j.index || c.weights != nil
	chunk := rowsOfClasses[F](classes)
	rows := chunk // of lanes
	*lowestOf[F](&w.args) = F(math.Inf(-1))
	w.scales = grow(w.scales, (classes+coef.Segment-1)/coef.Segment)
	if classes > coef.Long { // its segments are rows to the kernels
		*lowestOf[F](&w.args), rows = lowest[F](), len(w.scales)
	}
	w.rowBlocks = (coef.SegmentOf(classes) + blockOf[F]() - 1) / blockOf[F]()
	blocks := roundUp(rows, foldRows) * w.rowBlocks
	n := blocks * coef.LaneBytes / sizeOf[F]()
	w.lanes, w.folded = grow(w.lanes, 3*n), grow(w.folded, 3*blocks)
	w.lanesE, w.lanesD, w.lanesA = base(w.lanes), base(w.lanes[n:]), base(w.lanes[2*n:])
	w.eBuffer = w.eBuffer[:0]
	if !j.grads() {
		// Kernels for coefficients have no form that does not store: all rows share a place for it, see part.
		w.e, w.eStride, w.eStep = nil, 0, 1
		if w.isa != plainGo && (w.form != uniform || c.masks()) {
			w.eBuffer = grow(w.eBuffer, classes)
		}
	} else if w.eStride = classes * sizeOf[F](); isHalf[T]() {
		w.eBuffer = grow(w.eBuffer, chunk*classes)
	}
	if w.masked = w.masked[:0]; c.masks() {
		w.masked = grow(w.masked, chunk)[:0]
		w.uBuffer = grow(w.uBuffer, chunk*classes)
	}
	if w.shape = w.shapeOf(j); w.shape != lanesOfClasses {
		w.planeX = grow(w.planeX, max(classes, 4)*planeSlots)
		if w.form == dense {
			w.planeT = grow(w.planeT, max(classes, 4)*planeSlots)
		}
		w.planeLanes = grow(w.planeLanes, planeLaneBytes/sizeOf[F]())
	}
	if w.apart = w.apart[:0]; w.shape == lanesOfClasses && w.nonTemporalRows(j) {
		w.apart = grow(w.apart, rowsOfClasses[F](classes)*classes)
	}
	w.want = w.shape
	if w.turned.on = w.turns(j); w.turned.on {
		w.step = 1
		w.prepareTurning(j)
	}
}

// takesSingle says whether a job's rows are finished in float32, partly: see finishSingleRows.
func (w *worker[T, F]) takesSingle(j *job[T], v *vectors[F]) bool {
	return !isFloat64[F]() && j.index && v.coef == nil && j.c.zloss == 0 && !j.c.mask
}

// foldRows is how many rows folds read and write at a time, at most.
const foldRows = 16

// grads reports whether rows have a gradient that is not 0 throughout.
func (j *job[T]) grads() bool { return j.dst.Data != nil && j.g != 0 }

// constant fills constW and constU, unless they are already so.
func (w *worker[T, F]) constant(classes int, keep, uniform F) {
	if len(w.constW) == classes && w.constW[0] == keep && w.constU[0] == uniform {
		return
	}
	w.constW, w.constU = grow(w.constW, classes), grow(w.constU, classes)
	for k := range classes {
		w.constW[k], w.constU[k] = keep, uniform
	}
}

// upstream is a gradient's factor. All NaN are one, so that rounding in the kernels may take that for granted, and all zeros.
func upstream(g, up float64) float64 {
	if g *= up; g == g {
		return g + 0
	}
	return math.NaN()
}

// rowsOfClasses is the number of rows of a chunk whose lanes are classes: a multiple of RowLanes, or 1 where rows are long.
func rowsOfClasses[F real](classes int) int {
	if classes > coef.Long {
		return 1
	}
	return min(max(chunkBytes/sizeOf[F]()/classes, coef.RowLanes)&^(coef.RowLanes-1), maxSlots)
}

// block computes the rows lo to hi, and adds them up.
func (w *worker[T, F]) block(j *job[T], lo, hi int) (p partial) {
	w.sumLoss, w.sumZ, w.sumNLL = [coef.RowLanes]float64{}, [coef.RowLanes]float64{}, [coef.RowLanes]float64{}
	n, inner := rowsOfClasses[F](j.logits.Classes), j.logits.Inner
	if w.want != lanesOfClasses {
		n = w.rowsOfPlanes(j.logits.Classes)
	}
	w.position = lo % inner
	fence := false
	for i := lo; i < hi; {
		first := (i - lo) % coef.RowLanes
		rows := min(max(n-first, 1), hi-i)
		switch {
		case w.turned.on:
			if i == lo || i == w.turned.end {
				w.turn(j, i, hi)
			}
			rows = min(rows, w.turned.end-i)
		case inner > 1: // rows of a chunk lie equally far apart
			rows = min(rows, inner-w.position)
		}
		w.shape = w.want
		if n, ok := w.fits(rows); ok {
			rows = n
		} else {
			w.shape = lanesOfClasses
		}
		p.correct += w.chunk(j, i, first, rows)
		fence = fence || w.nonTemporal
		i += rows
		if w.position += rows; w.position >= inner {
			w.position = 0
		}
		if w.turned.on && i == w.turned.end && j.grads() {
			w.turnBatch(&j.dst, w.turned.x, true)
		}
	}
	if fence {
		w.storeFence()
	}
	p.loss, p.z, p.nll = treeOf(&w.sumLoss), treeOf(&w.sumZ), treeOf(&w.sumNLL)
	return p
}

// treeOf adds up the lanes of a sum over rows.
func treeOf(t *[coef.RowLanes]float64) float64 {
	return ((t[0] + t[1]) + (t[2] + t[3])) + ((t[4] + t[5]) + (t[6] + t[7]))
}

// chunk computes rows from row i on, in slots from first on, and returns how many of them have their target on top.
func (w *worker[T, F]) chunk(j *job[T], i, first, rows int) (correct int) {
	c, classes := j.c, j.logits.Classes
	grad := j.grads()
	w.rows, w.first, w.n = rows, first, classes
	w.x, w.xStride = w.rowOf(&j.logits, w.turned.x, i)
	w.labels, w.nonTemporal = unsafe.Pointer(&w.none), false
	if j.index {
		w.labels = unsafe.Pointer(&j.labels[i])
	} else {
		w.t, w.tStride = w.rowOf(&j.targets, w.turned.t, i)
	}
	if grad {
		w.dst, w.dstStride = w.rowOf(&j.dst, w.turned.x, i)
		if w.nonTemporal = w.nonTemporalPlanes(j); len(w.apart) != 0 {
			w.nonTemporal, w.dst = true, base(w.apart)
		}
		if len(w.eBuffer) != 0 {
			w.e, w.eStep = base(w.eBuffer), 1
		} else {
			w.e, w.eStride, w.eStep = w.dst, w.dstStride, w.step
		}
		if up := j.perRow.Upstream; len(up) > 1 {
			for r := range rows {
				w.setG(first+r, upstream(j.g, up[i+r]))
				w.gz[first+r] = upstream(j.gz, up[i+r])
			}
		}
	}
	labels := unsafe.Slice((*int32)(w.labels), rows)
	w.targets(j, labels)
	if c.masks() {
		w.maskRows(j, labels)
	}
	switch {
	case w.shape != lanesOfClasses:
		w.sumPlanes(j, labels)
	case classes > coef.Long:
		w.sumLong(j, labels[0])
	default:
		w.sumShort(j, labels)
	}
	for s := range first {
		w.clear(s)
	}
	for s := first + rows; s%coef.RowLanes != 0; s++ {
		w.clear(s)
	}
	if !j.index {
		for s := first; s < first+rows; s++ { // whose y is 0
			w.main[s], of[F](&w.target)[s] = float64(of[F](&w.sumA)[s]), -of[F](&w.minus)[s]
		}
	} else if grad {
		w.run(opExpTargets, 0)
	}
	if j.ignored != 0 {
		for r, y := range labels {
			if y < 0 {
				w.clear(first + r)
			}
		}
	}
	finish := opFinish
	if w.single {
		finish = opFinishSingle
	}
	if grad {
		finish++
	}
	w.run(finish, 0)
	switch {
	case !grad:
	case w.shape != lanesOfClasses:
		w.gradientPlanes(j)
	default:
		w.gradient(j, labels)
		if w.nonTemporal {
			w.storeRows(j, i, labels)
		}
	}
	w.outputs(j, i, labels)
	if !c.top1 {
		return 0
	}
	for r, y := range labels {
		s := first + r
		rest := of[F](&w.rest)[s]
		if y >= 0 && w.top[s] >= 0 && (rest == rest || math.IsInf(w.topLogit[s], 0)) {
			correct++
		}
	}
	return correct
}

// outputs writes what the caller wants to know of each row, and gradients of 0.
func (w *worker[T, F]) outputs(j *job[T], i int, labels []int32) {
	first := w.first
	if p := j.perRow.Loss; p != nil {
		for r := range labels {
			p[i+r] = w.loss[first+r]
			if !w.single {
				p[i+r] += w.z[first+r]
			}
		}
	}
	if p := j.perRow.LSE; p != nil {
		copy(p[i:], w.lse[first:first+len(labels)])
	}
	if !w.nonTemporal { // these are stored with the others
		w.zeros(j, i, labels)
	}
}

// zeros writes gradients of 0: of ignored rows, or of all if there is nothing to differentiate.
func (w *worker[T, F]) zeros(j *job[T], i int, labels []int32) {
	switch {
	case j.dst.Data == nil:
	case !j.grads():
		for r := range labels {
			j.dst.zero(i + r)
		}
	case j.ignored != 0:
		for r, y := range labels {
			switch {
			case y >= 0:
			case w.turned.on:
				row, _ := w.rowOf(&j.dst, w.turned.x, i+r)
				clear(unsafe.Slice((*T)(row), w.n))
			default:
				j.dst.zero(i + r)
			}
		}
	}
}

// clear lets a slot add 0 to every sum.
func (w *worker[T, F]) clear(s int) {
	for _, p := range [...]*slotsF{&w.minus, &w.rest, &w.target, &w.d} {
		of[F](p)[s] = 0
	}
	w.main[s], w.cleared = 0, true
}

// targets looks up what the logits of the targets' classes are needed for, before they are overwritten.
func (w *worker[T, F]) targets(j *job[T], labels []int32) {
	c := j.c
	if j.index && w.cleared && c.weights == nil {
		for s := range w.used {
			w.main[s] = w.main0
		}
		w.cleared = false
	}
	if c.v64.coef == nil && !c.top1 {
		return // the kernels do the rest
	}
	for r, y := range labels {
		s := w.first + r
		if j.index && y >= 0 {
			if c.weights != nil {
				w.main[s] = float64(w.main0 * c.weights[y])
			}
			if c.v64.coef != nil {
				w.uy[s] = c.smoothing * c.v64.coef[y]
			}
		}
		if c.top1 && y >= 0 {
			if !j.index {
				y = int32(argmax[T, F](unsafe.Add(w.t, r*w.tStride), w.n, w.step))
			}
			if w.top[s] = y; y >= 0 {
				w.topLogit[s] = widen[T](unsafe.Add(w.x, r*w.xStride), int(y)*w.step)
			}
		}
	}
}

// gradient turns the exponentials of a chunk into gradients.
func (w *worker[T, F]) gradient(j *job[T], labels []int32) {
	all := w.view
	switch {
	case all.n > coef.Long:
		f, smooth := of[F](&w.f)[all.first], of[F](&w.smooth)[all.first]
		for i := 0; i < len(w.scales); {
			form := w.segments(i, w.form == uniform && len(w.masked) == 0)
			for r := range w.rows {
				of[F](&w.f)[w.first+r], of[F](&w.smooth)[w.first+r] = F(float64(f)*w.scales[i+r]), smooth
			}
			w.run(opScale, form)
			i += w.rows
			w.view = all
		}
	case len(w.masked) == 0:
		w.run(opScale, w.form)
	default:
		for r := 0; r < all.rows; {
			n := w.alike(r, all.rows-r)
			w.run(opScale, w.part(r, n, 0, all.n))
			w.view = all
			r += n
		}
	}
	if j.index {
		putTargets[T, F](w.dst, w.dstStride, w.step, labels, of[F](&w.gy)[all.first:])
	}
}

// part narrows the view to n classes of some rows, from row r and class k on, and returns the form of their coefficients.
func (w *worker[T, F]) part(r, rows, k, n int) form {
	sizeT, sizeF := sizeOf[T](), sizeOf[F]()
	v, f := &w.view, w.form
	if len(w.masked) != 0 && w.masked[r] {
		v.u = unsafe.Pointer(&w.uBuffer[r*v.n])
		f = max(f, classwise)
	}
	if f != uniform {
		v.u = unsafe.Add(v.u, k*sizeF)
	}
	if f == dense {
		v.w = unsafe.Add(v.w, k*sizeF)
	}
	v.x = unsafe.Add(v.x, r*w.xStride+k*w.step*sizeT)
	if v.e == nil && f != uniform && len(w.eBuffer) != 0 {
		v.e = base(w.eBuffer)
	}
	if v.e != nil {
		v.e = unsafe.Add(v.e, r*w.eStride+k*w.eStep*sizeF)
	}
	if v.dst != nil {
		v.dst = unsafe.Add(v.dst, r*w.dstStride+k*w.step*sizeT)
	}
	if f == dense {
		v.t = unsafe.Add(v.t, r*w.tStride+k*w.step*sizeT)
	}
	block := r*w.rowBlocks + k/blockOf[F]()
	block *= coef.LaneBytes
	v.lanesE, v.lanesD, v.lanesA = unsafe.Add(v.lanesE, block), unsafe.Add(v.lanesD, block), unsafe.Add(v.lanesA, block)
	v.labels = unsafe.Add(v.labels, 4*r)
	v.first, v.rows, v.n = v.first+r, rows, n
	return f
}

// segments narrows the view to segments of a long row, from segment i on, as if they were rows, and returns the form of their
// coefficients: to one segment, or to many, which only uniform coefficients allow, in slots from 0 on.
func (w *worker[T, F]) segments(i int, many bool) form {
	rows, k := 1, i*coef.Segment
	if many {
		rows = min(max(1, w.n/coef.Segment-i), segmentRows)
	}
	f := w.part(0, rows, k, min(coef.Segment, w.n-k))
	if many {
		w.first = 0
	}
	w.labels = unsafe.Pointer(&w.none)
	sizeT, sizeF := sizeOf[T](), sizeOf[F]()
	w.xStride, w.dstStride, w.eStride = coef.Segment*w.step*sizeT, coef.Segment*w.step*sizeT, coef.Segment*w.eStep*sizeF
	return f
}
