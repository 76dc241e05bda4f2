package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/golsr/lsr"
	"github.com/golsr/lsr/internal/aside"
	"github.com/golsr/lsr/lsr/internal/npy"
)

// blockLogits is how many logits are in memory at a time, unless a row has more.
const blockLogits = 1 << 20

// score checks everything there is to check, then goes through the files block by block.
func (e *evaluation) score() (*report, error) {
	if err := e.shapes(); err != nil {
		return nil, err
	}
	if err := e.vectors(); err != nil {
		return nil, err
	}
	if e.index {
		if err := e.checkTargets(); err != nil {
			return nil, err
		}
	} else {
		if e.cmd.Flags().Changed("ignore-index") {
			return nil, fmt.Errorf("%s: --ignore-index goes with index targets, got distributions", e.targets.Name)
		}
		e.weight = float64(e.outer * e.inner)
	}
	// Rows are computed in the type of the logits, or of the distributions if that is wider.
	switch x, t := e.logits, e.targets; {
	case x.Size == 8 || !e.index && t.Size == 8:
		return scoreAs[float64](e)
	case x.Size == 4 || !e.index && t.Type() != x.Type():
		return scoreAs[float32](e)
	case e.bf16:
		return scoreAs[lsr.BFloat16](e)
	}
	return scoreAs[lsr.Float16](e)
}

// shapes works out what is a row, and whether the files fit each other.
func (e *evaluation) shapes() error {
	x, t := e.logits, e.targets
	for _, f := range []*npy.File{x, t} {
		if f.Fortran {
			return fmt.Errorf("%s: expected C order, got Fortran order: save a numpy.ascontiguousarray", f.Name)
		}
	}
	switch {
	case e.bf16 && (x.Kind != 'u' || x.Size != 2):
		return fmt.Errorf("%s: expected bfloat16 bits as u2, got %s", x.Name, x.Type())
	case !e.bf16 && x.Kind != 'f':
		return fmt.Errorf("%s: expected logits of f2, f4 or f8 (or u2 with --bf16), got %s", x.Name, x.Type())
	case len(x.Shape) < 2:
		return fmt.Errorf("%s: expected logits of at least two dimensions, got shape %v", x.Name, x.Shape)
	}
	axis := e.axis
	if axis < 0 {
		axis += len(x.Shape)
	}
	if axis < 0 || axis >= len(x.Shape) {
		return fmt.Errorf("%s: --axis %d is none of the axes of shape %v", x.Name, e.axis, x.Shape)
	}
	e.k = x.Shape[axis]
	if e.k < 1 || e.k > math.MaxInt32 {
		return fmt.Errorf("%s: number of classes must be in [1, 2³¹), got shape %v with class axis %d", x.Name, x.Shape, axis)
	}
	e.outer, e.inner = 1, 1
	for i, n := range x.Shape {
		if i < axis {
			e.outer *= n
		} else if i > axis {
			e.inner *= n
		}
	}
	e.shape = slices.Delete(slices.Clone(x.Shape), axis, axis+1)
	distributions := t.Kind == 'f' || e.bf16 && t.Type() == "u2" && len(t.Shape) == len(x.Shape)
	e.index = !distributions
	what, want := "index targets", e.shape
	if distributions {
		what, want = "distributions", x.Shape
	}
	if !slices.Equal(t.Shape, want) {
		return fmt.Errorf("%s: expected %s of shape %v for logits of shape %v with class axis %d, got %s of shape %v",
			t.Name, what, want, x.Shape, axis, t.Type(), t.Shape)
	}
	return nil
}

// vectors reads prior and weights.
func (e *evaluation) vectors() error {
	if e.prior != "" {
		u, err := vector(e.prior, e.k)
		if err != nil {
			return err
		}
		if e.crit, err = e.crit.With(lsr.Prior(u)); err != nil {
			return fmt.Errorf("%s: %w", e.prior, err)
		}
	}
	if e.weights != "" {
		w, err := vector(e.weights, e.k)
		if err != nil {
			return err
		}
		if e.crit, err = e.crit.With(lsr.Weights(w)); err != nil {
			return fmt.Errorf("%s: %w", e.weights, err)
		}
		e.weightOf = w
	}
	return nil
}

// checkTargets reads all index targets, before anything is written.
func (e *evaluation) checkTargets() error {
	var block [1 << 12]int64
	ignores := e.cmd.Flags().Changed("ignore-index")
	for start := 0; start < e.targets.Len(); start += len(block) {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		b := block[:min(len(block), e.targets.Len()-start)]
		if err := e.targets.Int64s(b, start); err != nil {
			return err
		}
		for i, y := range b {
			switch {
			case ignores && y == e.ignore:
				e.ignored++
			case y < 0 || y >= int64(e.k):
				return fmt.Errorf("%s: %w", e.targets.Name, &lsr.TargetError{Row: start + i, Target: y, Classes: e.k})
			case e.weightOf != nil:
				e.weight += e.weightOf[y]
			default:
				e.weight++
			}
		}
	}
	return nil
}

// blockCriterion is the criterion for one block of the rows: a mean divides by what it divides by over all of them.
func (e *evaluation) blockCriterion() (crit *lsr.Criterion, sameLoss bool, err error) {
	kept := e.outer*e.inner - e.ignored
	if e.reduction != "mean" || e.denominator != 0 || e.weight == 0 || kept == 0 {
		return e.crit, true, nil
	}
	// The z-loss term divides by the number of rows.
	z := e.zloss * (e.weight / float64(kept))
	crit, err = e.crit.With(lsr.Denominator(e.weight), lsr.ZLoss(z))
	return crit, z == e.zloss, err
}

// scoreAs scores in an element type.
func scoreAs[T lsr.Element](e *evaluation) (*report, error) {
	crit, sameLoss, err := e.blockCriterion()
	if err != nil {
		return nil, err
	}
	out := outputs{}
	defer out.abort()
	descr := "<f4"
	if e.logits.Size == 8 {
		descr = "<f8"
	}
	rows, lse := out.create(e.rows, descr, e.shape), out.create(e.lse, descr, e.shape)
	grad := out.create(e.grad, fmt.Sprintf("<%c%d", e.logits.Kind, e.logits.Size), e.logits.Shape)
	if out.err != nil {
		return nil, out.err
	}
	total := e.outer * e.inner
	r := &report{Rows: total, Ignored: e.ignored, Kernel: crit.Kernel()}
	progress := bar(e.cmd.ErrOrStderr(), int64(total), "eval")
	defer progress.Clear()

	// A block is whole planes [n/inner, K, inner] (rows, if inner is 1), or n positions [K, n] of a plane that is larger.
	most := max(1, blockLogits/e.k)
	if e.whole() {
		most = max(1, blockLogits/(e.k*max(1, e.inner))) * e.inner
	}
	most = min(most, total)
	logits, targets := make([]T, most*e.k), []T(nil)
	if !e.index {
		targets = make([]T, most*e.k)
	}
	labels := make([]int64, most)
	losses, lses := make([]float64, most), make([]float64, most)
	correct, loss, nll := 0, 0.0, 0.0
	for start := 0; start < total; {
		if err := e.ctx.Err(); err != nil {
			return nil, err
		}
		n := min(most, total-start)
		if !e.whole() {
			n = min(n, e.inner-start%e.inner)
		}
		x, t := block(e, logits, n), lsr.Batch[T]{}
		if err := transfer(e, e.logits, x.Data, start, n, readElements[T]); err != nil {
			return nil, err
		}
		if e.index {
			err = e.targets.Int64s(labels[:n], start)
		} else {
			t = block(e, targets, n)
			err = transfer(e, e.targets, t.Data, start, n, readElements[T])
		}
		if err != nil {
			return nil, err
		}
		per := lsr.PerRow{Loss: losses[:n], LSE: lses[:n]}
		forward := func(c *lsr.Criterion) (lsr.Result, error) {
			if e.index {
				return lsr.Forward(c, x, labels[:n], per)
			}
			return lsr.ForwardDist(c, x, t, per)
		}
		var result lsr.Result
		switch {
		case grad == nil:
			result, err = forward(crit)
		case e.index:
			result, err = lsr.Grad(crit, x, x, labels[:n], per)
		default:
			result, err = lsr.GradDist(crit, x, x, t, per)
		}
		if err != nil {
			return nil, cmp.Or(e.unchanged(), err) // targets have been checked
		}
		if grad != nil {
			if err := transfer(e, grad, x.Data, start, n, writeElements[T]); err != nil {
				return nil, err
			}
		}
		if !sameLoss && rows != nil {
			if grad != nil {
				err = transfer(e, e.logits, x.Data, start, n, readElements[T])
			}
			if err == nil {
				_, err = forward(e.crit)
			}
			if err != nil {
				return nil, err
			}
		}
		if err := writeRows(rows, losses[:n], start); err != nil {
			return nil, err
		}
		if err := writeRows(lse, lses[:n], start); err != nil {
			return nil, err
		}
		loss += result.Loss
		if kept := n - result.Ignored; kept > 0 {
			nll += result.NLL * float64(kept)
		}
		correct += result.Correct
		start += n
		progress.Add(n)
	}
	if err := e.unchanged(); err != nil {
		return nil, err
	}
	e.totals(r, loss, nll, correct)
	return r, out.commit()
}

// unchanged says whether the inputs are as they were: results of two states of a file are none.
func (e *evaluation) unchanged() error {
	return cmp.Or(e.logits.Unchanged(), e.targets.Unchanged())
}

// totals makes the report of what the blocks add up to.
func (e *evaluation) totals(r *report, loss, nll float64, correct int) {
	kept := float64(r.Rows - r.Ignored)
	mean := func(sum float64) number {
		if kept == 0 && e.empty == "zero" {
			return 0
		}
		return number(sum / kept)
	}
	if e.reduction != "none" {
		if e.reduction == "mean" && e.denominator == 0 && (kept == 0 || e.weight == 0) {
			loss = 0
			if e.empty == "nan" {
				loss = math.NaN()
			}
		}
		r.Loss = new(number(loss))
	}
	if e.index {
		r.NLL = new(mean(nll))
	}
	r.Accuracy = mean(float64(correct))
}

// whole says whether blocks are of whole planes.
func (e *evaluation) whole() bool { return e.inner <= max(1, blockLogits/e.k) }

// block is the first n rows of a buffer as a batch.
func block[T lsr.Element](e *evaluation, buf []T, n int) lsr.Batch[T] {
	return lsr.Planes(buf[:n*e.k], e.k, min(n, e.inner))
}

// transfer reads or writes the n rows from row start on, which lie together in the block.
func transfer[F any, T lsr.Element](e *evaluation, f F, block []T, start, n int, elements func(F, []T, int) error) error {
	if e.whole() {
		return elements(f, block, start*e.k)
	}
	for k := range e.k {
		if err := elements(f, block[k*n:(k+1)*n], (start/e.inner*e.k+k)*e.inner+start%e.inner); err != nil {
			return err
		}
	}
	return nil
}

// readElements reads elements of a file, from number start on, as T, which is the file's type or a wider one.
func readElements[T lsr.Element](f *npy.File, dst []T, start int) error {
	if _, bits := any(dst).([]lsr.BFloat16); f.Kind == 'u' && !bits { // bfloat16 logits beside wider distributions
		narrow := make([]lsr.BFloat16, len(dst))
		err := readElements(f, narrow, start)
		for i, v := range narrow {
			dst[i] = T(v.Float32())
		}
		return err
	}
	switch dst := any(dst).(type) {
	case []float64:
		return f.Float64s(dst, start)
	case []float32:
		return f.Float32s(dst, start)
	case []lsr.Float16:
		return f.Uint16s(lsr.Bits(dst), start)
	case []lsr.BFloat16:
		return f.Uint16s(lsr.Bits(dst), start)
	}
	panic("unreachable")
}

// writeElements writes elements to a file from number start on, rounded to its type.
func writeElements[T lsr.Element](w *output, src []T, start int) error {
	switch src := any(src).(type) {
	case []float64:
		if w.descr == "<f8" {
			return w.Float64sAt(src, start)
		}
		narrow := make([]float32, len(src))
		for i, v := range src {
			narrow[i] = float32(v)
		}
		return writeElements(w, narrow, start)
	case []float32:
		switch w.descr {
		case "<f4":
			return w.Float32sAt(src, start)
		case "<f2":
			bits := make([]lsr.Float16, len(src))
			for i, v := range src {
				bits[i] = lsr.ToFloat16(v)
			}
			return writeElements(w, bits, start)
		}
		bits := make([]lsr.BFloat16, len(src))
		for i, v := range src {
			bits[i] = lsr.ToBFloat16(v)
		}
		return writeElements(w, bits, start)
	case []lsr.Float16:
		return w.Uint16sAt(lsr.Bits(src), start)
	case []lsr.BFloat16:
		return w.Uint16sAt(lsr.Bits(src), start)
	}
	panic("unreachable")
}

// writeRows writes row losses or log-sum-exps, if there is a file for them.
func writeRows(w *output, v []float64, start int) error {
	if w == nil {
		return nil
	}
	return writeElements(w, v, start)
}

// output is a .npy file under way.
type output struct {
	*npy.Writer
	descr string
}

// outputs are all files under way: none appears before all are complete.
type outputs struct {
	files []*output
	err   error // the first error of create
}

// create starts a file, if there is a path. It returns nil if there is none, or after an error.
func (o *outputs) create(path, descr string, shape []int) *output {
	if path == "" || o.err != nil {
		return nil
	}
	w, err := npy.Create(path, descr, shape)
	if err != nil {
		o.err = err
		return nil
	}
	o.files = append(o.files, &output{w, descr})
	return o.files[len(o.files)-1]
}

func (o *outputs) abort() {
	for _, w := range o.files {
		w.Abort()
	}
}

func (o *outputs) commit() error {
	var files []*aside.File
	for _, w := range o.files {
		files = append(files, w.File)
	}
	return aside.Commit(files...)
}
