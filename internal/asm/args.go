package asm

import "fmt"

// A Field is a member of the struct that kernels get a pointer to. Each is one or more words of 8 bytes.
type Field struct {
	Name  string
	Type  string
	Words int
	Doc   string
}

// Slots is how many rows a worker has under way at once, and Pad how many more a kernel may finish beside them. PlaneSlots is how far
// apart the classes of a copy are: in steps of 512 bytes, each eighth class would lie a page on, where a CPU takes loads for stores
// that are under way.
const (
	Slots      = 256
	Pad        = 8
	PlaneSlots = Slots + 16
)

// PlaneZeros is how far behind lanesE kernels for planes find zeros, for two sums to start from: behind all four sums, with 16 vectors of
// 64 bytes each, at most. PlaneLaneBytes is what all that takes.
const (
	PlaneZeros     = 4 * 16 * 64
	PlaneLaneBytes = PlaneZeros + 2*16*64
)

// Pairs is how many rows of two classes a kernel takes at once, and PairStep what their number is a multiple of. PairSlots is how far
// apart arrays for them are: not a page either.
const (
	Pairs     = 1024
	PairStep  = 32
	PairSlots = Pairs + 32
)

// The arrays for rows of two classes.
const (
	PairLoss = iota
	PairNLL  // −log p_y
	PairLog  // log-sum-exp less maximum
	PairMax  // maximum
	PairGap  // what the kernel's loops tell one another
	PairExp
	PairArrays
)

// float is F, of which a field has as many as it has words.
const pointer, integer, number, float = "unsafe.Pointer", "int", "float64", "F"

// View are the fields that say which rows a kernel works on.
var View = []Field{
	{"x", pointer, 1, "logits: the first class of the first row"},
	{"e", pointer, 1, "exponentials, in the type that rows are computed in; nil if nobody wants them"},
	{"dst", pointer, 1, "gradient"},
	{"t", pointer, 1, "distribution targets"},
	{"u", pointer, 1, "coefficients of the classes: u_k·w_k, or for distributions ε·u_k·w_k"},
	{"w", pointer, 1, "factors of distribution targets for the classes: (1−ε)·w_k"},
	{"labels", pointer, 1, "int32 for each row; rows with one below 0 are skipped"},
	{"lanesE", pointer, 1, "lanes of Σe, rowBlocks × LaneBytes bytes for each row; to kernels for planes, of all sums, with zeros behind them"},
	{"lanesD", pointer, 1, "lanes of Σd or Σa·d"},
	{"lanesA", pointer, 1, "lanes of Σa"},
	{"rows", integer, 1, "number of rows"},
	{"first", integer, 1, "slot of the first row"},
	{"n", integer, 1, "number of classes"},
}

// Args are the other fields.
var Args = []Field{
	{"ahead", integer, 1, "sums: number of rows beside which the maximum of the next row but one is found"},
	{"lowest", float, 1, "what maxima start from, an F: −Inf, or what lets x − m be −Inf for x = −Inf"},
	{"xStride", integer, 1, "bytes from a row to the next"},
	{"eStride", integer, 1, ""},
	{"dstStride", integer, 1, ""},
	{"tStride", integer, 1, ""},
	{"step", integer, 1, "elements from a class to the next, of logits, targets and gradient"},
	{"eStep", integer, 1, "elements from a class to the next, of exponentials"},
	{"next", integer, 1, "planes: address of the next chunk's logits, which may not exist, for prefetching; or x"},
	{"beyond", integer, 1, "planes: bytes from there to this chunk's gradient, or 0"},
	{"xStep", integer, 1, "bytes from a class to the next of logits and targets whose class axis is not last,"},
	{"dstStep", integer, 1, "and of the gradient"},
	{"plane", pointer, 1, "transposed rows: F for each slot, class after class"},
	{"planeStep", integer, 1, "bytes from a class to the next there, for kernels that transpose, convert or store; to others it is constant"},
	{"rowBlocks", integer, 1, "blocks of a row"},
	{"lanes", pointer, 1, "fold: lanes, blocks × LaneBytes bytes for each row"},
	{"sums", pointer, 1, "fold: F for each row"},
	{"folds", integer, 1, "fold: number of rows"},
	{"blocks", integer, 1, "fold: blocks of a row"},
	{"bias", number, 1, "fold: what is added to each sum"},
	{"epsD", number, 1, "what Σd or Σa·d counts"},
	{"halfEps", number, 1, "pairs: ε/2"},
	{"keep", number, 1, "finishSingle: 1−ε"},
	{"eps", number, 1, "finishSingle: ε"},
	{"lambda", number, 1, "factor of the z-loss"},
	{"bad", integer, 1, "labels: out: 0 if all are classes"},
	{"factors", pointer, 1, "pairs: float32 for each row: factor of the gradient"},
	{"out", pointer, 1, "pairs: out: pairArrays arrays with a float32 for each row"},
	{"outStep", integer, 1, "pairs: bytes from a row to the next there, or 0 if nobody wants to know"},
	{"_", number, 6, "what follows starts a cache line, as the struct does: it is so large that the allocator gives it pages"},
	{"minus", float, Slots + Pad, "−m, m being the row's maximum"},
	{"rest", float, Slots + Pad, "Σe − 1"},
	{"target", float, Slots + Pad, "x_y"},
	{"d", float, Slots + Pad, "Σd or Σa·d"},
	{"sumA", float, Slots + Pad, "Σa"},
	{"ey", float, Slots + Pad, "e_y"},
	{"g", float, Slots + Pad, "factor of the gradient"},
	{"smooth", float, Slots + Pad, "what a coefficient counts in the gradient"},
	{"f", float, Slots + Pad, "out: factor of the exponentials in the gradient"},
	{"gy", float, Slots + Pad, "out: gradient of the target's class"},
	{"log", float, Slots + Pad, "log(1 + rest) without what exponent adds: what loops of finishSingle tell one another"},
	{"exponent", float, Slots + Pad, "int32: that of 1 + rest"},
	{"main", number, Slots + Pad, "(1−ε)·w_y, or Σa"},
	{"eu", number, Slots + Pad, "ε·Σ u·w"},
	{"uy", number, Slots + Pad, "ε·u_y·w_y"},
	{"gz", number, Slots + Pad, "factor of the z-loss's gradient"},
	{"loss", number, Slots + Pad, "out: loss without z-loss"},
	{"z", number, Slots + Pad, "out: z-loss"},
	{"lse", number, Slots + Pad, "out: log-sum-exp"},
	{"sumLoss", number, 8, "out: lanes of the sum over rows of loss,"},
	{"sumZ", number, 8, "of z,"},
	{"sumNLL", number, 8, "and of −log p_y"},
}

// field is a field and where it lies.
func field(name string) (f Field, offset int) {
	words := 0
	for _, fields := range [][]Field{View, Args} {
		for _, f := range fields {
			if f.Name == name {
				return f, words * 8
			}
			words += f.Words
		}
	}
	panic(fmt.Sprintf("asm: no argument %q", name))
}
