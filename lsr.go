package lsr

//go:generate go run ./gen

import "fmt"

// Element is a type that logits, distribution targets and gradients may have.
type Element interface {
	float32 | float64 | Float16 | BFloat16
}

// Label is a type that index targets may have.
type Label interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Batch is logits, gradients or distribution targets in memory: [rows, Classes] with the class axis last and rows
// Stride elements apart (made by [Rows] or [RowsStride]), or [outer, Classes, Inner], contiguous, with the class axis
// before Inner positions (made by [Planes]). Whether the shape fits the data is checked by each call.
type Batch[T Element] struct {
	Data    []T
	Classes int // length of the class axis, K
	Stride  int // elements from one row to the next, at least Classes; equal to Classes unless Inner is 1
	Inner   int // positions behind the class axis; 1 when the class axis is last
}

// Rows is a contiguous batch of rows, [len(data)/classes, classes].
func Rows[T Element](data []T, classes int) Batch[T] {
	return Batch[T]{data, classes, classes, 1}
}

// RowsStride is a batch of rows that start stride ≥ classes elements apart. The last row need not be padded; what is
// between the rows is neither read nor written.
func RowsStride[T Element](data []T, classes, stride int) Batch[T] {
	return Batch[T]{data, classes, stride, 1}
}

// Planes is a contiguous batch [outer, classes, inner], such as images (N, C, H·W). Its rows, in the order in which
// targets and row losses are counted, are its positions [outer, inner].
func Planes[T Element](data []T, classes, inner int) Batch[T] {
	return Batch[T]{data, classes, classes, inner}
}

// PerRow holds what a call takes or gives for each row; the zero value asks for nothing. A slice that is not nil has one
// entry for each row. Values are float64, but only as accurate as the type that rows are computed in; see Accuracy.
type PerRow struct {
	Loss     []float64 // out: row losses, before any reduction and upstream factor; 0 for an ignored row
	LSE      []float64 // out: log-sum-exp of the row's logits; 0 for an ignored row
	Upstream []float64 // in: factors of the gradient: one for all rows (length 1), or one for each row
}

// Result is what a call found out about the whole batch.
type Result struct {
	Loss    float64 // the reduced loss; NaN with [None], whose losses are in [PerRow]
	NLL     float64 // mean of the unsmoothed, unweighted −log p_y over the rows not ignored; NaN for distributions
	Rows    int     // all rows, the ignored ones too
	Ignored int     // rows whose target is the ignore index
	Correct int     // rows not ignored whose first largest logit is the target, or a distribution's first largest entry; counted if [Top1] is set
}

// Forward computes the loss of logits against index targets, one for each row. It allocates nothing in the steady state.
func Forward[T Element, L Label](c *Criterion, logits Batch[T], targets []L, perRow ...PerRow) (Result, error) {
	return index(c, Batch[T]{}, logits, targets, perRow, false)
}

// Grad computes the loss, to the bit as [Forward] does, and its gradient with respect to the logits. The gradient is written
// to dst, which has the shape of logits and may be the same memory (in place), but must not overlap it in any
// other way. The caller owns dst: a buffer that is reused costs no page faults.
func Grad[T Element, L Label](c *Criterion, dst, logits Batch[T], targets []L, perRow ...PerRow) (Result, error) {
	return index(c, dst, logits, targets, perRow, true)
}

// ForwardDist computes the loss of logits against distribution targets, which have the shape of logits. Their entries are taken as
// they are: a row need not sum to 1, and a NaN makes its row NaN.
func ForwardDist[T Element](c *Criterion, logits, targets Batch[T], perRow ...PerRow) (Result, error) {
	return distribution(c, Batch[T]{}, logits, targets, perRow, false)
}

// GradDist is to [ForwardDist] what [Grad] is to [Forward].
func GradDist[T Element](c *Criterion, dst, logits, targets Batch[T], perRow ...PerRow) (Result, error) {
	return distribution(c, dst, logits, targets, perRow, true)
}

// TargetError is an index target that is neither a class nor the ignore index. Nothing has been written.
type TargetError struct {
	Row     int   // the row, counted as [Batch] says
	Target  int64 // its target; a uint64 beyond int64 is given as the largest int64
	Classes int   // the number of classes
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("lsr: target of row %d is %d, expected a class in [0, %d) or the ignore index", e.Row, e.Target, e.Classes)
}
