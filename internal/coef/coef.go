// Package coef holds the constants of the arithmetic, which plain Go (package lsr) and the generated assembly
// (internal/asm) share: coefficients of exp and log, and the sizes that fix the order of every sum.
package coef

// These fix the order of every sum: another value gives other bits.
const (
	// BlockBytes is how many bytes of elements, in the type that rows are computed in, are added up before lanes are folded.
	BlockBytes = 2048
	// LaneBytes is the size of all lanes of a sum together, ExpLaneBytes that of the sum of exponentials: 16 and 32 lanes of
	// float32, 8 and 16 of float64. That sum has more of them, until its halves are added, since one large term lets all
	// that its lane adds later round alike.
	LaneBytes    = 64
	ExpLaneBytes = 128
	// A row of more than Long elements is taken in segments of Segment, with a maximum for each.
	Long    = 8192
	Segment = 1024
	// RowLanes is how many lanes the sum over rows has.
	RowLanes = 8
)

// These change only the speed.
const (
	// NearBytes is how many bytes of logits are passed over for maxima before they are passed over again for sums: a part of
	// the nearest cache. AheadBytes is how far ahead the latter pass prefetches them, and SoonBytes how far ahead the place of
	// a gradient, and rows that are transposed, are prefetched.
	NearBytes  = 1 << 14
	AheadBytes = NearBytes + 1<<12
	SoonBytes  = 3 << 9
	// RowsAhead is how many rows before a row's sums its maximum is found: the sums of the row between need not wait for it.
	RowsAhead = 2
)

// SegmentOf is how many of a row's elements a segment has: all of them, unless the row is long.
func SegmentOf(elements int) int {
	if elements > Long {
		return Segment
	}
	return elements
}

// A float32 exponential, for x ≤ 0: x = n·ln2/8 + r with |r| ≤ ln2/16, and eˣ = 2^(n/8)·eʳ = S + S·(r + r²·(C2 + C3·r)).
const (
	Exp32Inv   = 0x1.715476p+3 // 8/ln2 in float32
	Exp32Step  = 0x1.62e43p-4  // ln2/8 in float32
	Exp32C2    = 0x1.000836p-1 // minimax on |r| ≤ ln2/16
	Exp32C3    = 0x1.55589ap-3
	Exp32Min   = -88.03  // there, S is 0; from −87.4 on, it is denormal
	Exp32Magic = 3 << 22 // adding it rounds to an integer, which the low bits then hold
)

// Exp32Table has the bits of 2^(i/8), less i in the place that n mod 8 will be added to: S = table[n mod 8] + n<<20.
var Exp32Table = [8]uint32{
	0x3f800000 - 0<<20, 0x3f8b95c2 - 1<<20, 0x3f9837f0 - 2<<20, 0x3fa5fed7 - 3<<20,
	0x3fb504f3 - 4<<20, 0x3fc5672a - 5<<20, 0x3fd744fd - 6<<20, 0x3feac0c7 - 7<<20,
}

// A float64 exponential, in the same way with two constants for ln2/8.
const (
	Exp64Inv    = 0x1.71547652b82fep+3
	Exp64StepHi = 0x1.62e42fefa4p-4      // ln2/8, cut so that its products with n are exact
	Exp64StepLo = -0x1.8432a1b0e2634p-46 // the rest of it
	Exp64C2     = 0x1.000000000010bp-1   // minimax on |r| ≤ ln2/16
	Exp64C3     = 0x1.5555555555133p-3
	Exp64C4     = 0x1.555555480d747p-5
	Exp64C5     = 0x1.11111125cda6dp-7
	Exp64C6     = 0x1.6c1cbdb8dc5c8p-10
	Exp64C7     = 0x1.a0163d8c142b9p-13
	Exp64Min    = -709.09
	Exp64Magic  = 3 << 51
)

// Exp64Table is to Exp64 what Exp32Table is to Exp32: S = table[n mod 8] + n<<49.
var Exp64Table = [8]uint64{
	0x3ff0000000000000 - 0<<49, 0x3ff172b83c7d517b - 1<<49, 0x3ff306fe0a31b715 - 2<<49, 0x3ff4bfdad5362a27 - 3<<49,
	0x3ff6a09e667f3bcd - 4<<49, 0x3ff8ace5422aa0db - 5<<49, 0x3ffae89f995ad3ad - 6<<49, 0x3ffd5818dcfba487 - 7<<49,
}

// Log32 is for log(1+e) of float32, e in [0, 1]: e + e²·(Log32[0] + Log32[1]·e + …), minimax in the relative error, then tuned.
var Log32 = [9]float32{
	-0x1.ffffd2p-2, 0x1.554dfp-2, -0x1.ff26e6p-3, 0x1.935cap-3, -0x1.3a7a8p-3, 0x1.b579bap-4, -0x1.d86312p-5, 0x1.4b083p-6, -0x1.b2f55cp-9,
}

// log(1+f): with 1+f = 2ᵏ·(1+g), 1+g in [¾, 1½) and s = g/(2+g), log(1+g) = g − s·(g − s²·P(s²)).
const (
	LogP0 = 0x1.5555555555776p-1
	LogP1 = 0x1.99999998f0bd6p-2
	LogP2 = 0x1.249249b222fp-2
	LogP3 = 0x1.c71c016551af6p-3
	LogP4 = 0x1.7474e2696e6f9p-3
	LogP5 = 0x1.3852e00f63497p-3
	LogP6 = 0x1.3abdd03f8d6e3p-3
	Ln2Hi = 0x1.62e42fefa39efp-1
	Ln2Lo = 0x1.abc9e3b39803fp-56
	Two52 = 0x1p52 // adding an integer below it to its bits adds that integer
)
