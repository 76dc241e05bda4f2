package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels for a constant number of classes.

// planeSchedules are, by their number, how few classes of float32 are added up with AVX2, for uniform smoothing: the order of the instructions,
// found like schedules (that of three is that of four without one), and what is added to what. The first pieces are the chains of
// instructions from differences to exponentials, then comes what else there is to do for the classes, and last their additions.
var planeSchedules = map[int]struct {
	order string
	adds  [][2]int
}{
	2: {"010110010121010012210200203303301111130144", [][2]int{{0, 1}}},
	3: {"0120133330061010304024041140040022565111250552011111122262222226", [][2]int{{0, 1}, {1, 2}}},
	4: {"01201344440081010405025051150053003223688611713260662011113117222378323333277322322388", [][2]int{{0, 1}, {2, 3}, {1, 3}}},
}

// planeSumUnrolled is planeSum for a constant number of classes: a tree of lanes in registers.
func (b *builder) planeSumUnrolled() {
	b.doc("is planeSum for a constant number of classes.")
	exp := b.expConstants()
	lanes := b.lanes()
	x, t, labels := b.planeArgs()
	partial := b.load("lanesE")
	to := func(base reg.Register, k int) operand.Mem { return operand.Mem{Base: base, Disp: k * b.planeStep()} }
	fetch := b.newStream(b.load("xStep"))
	b.positions(b.width(), labels, []reg.GPVirtual{x, t, fetch.next}, func(slot reg.GPVirtual) {
		b.start(fetch)
		st := b.newPlaneState(&exp, slot, labels)
		leaf := func(l int) (s sums) {
			var second vec
			for i, k := 0, l; k < b.Classes; i, k = i+1, k+lanes {
				var mt operand.Mem
				if t != nil {
					mt = to(t, k)
				}
				one := st.class(to(x, k), mt, nil, k)
				b.prefetch(fetch)
				switch i {
				case 0:
					s = one
					continue
				case 1:
					second = one.e
				default:
					acc := []vec{s.e, second}[i%2]
					b.add(acc, acc, one.e)
				}
				b.addSums(s, one)
			}
			if second != nil {
				b.add(s.e, s.e, second)
			}
			return s
		}
		scheduled := b.ISA == AVX2 && b.Form == Uniform && !b.double() && b.Classes <= 2*lanes
		woven, skew := 1, 0 // leaves, as registers allow
		if b.ISA == AVX512 && b.Form == Uniform && !b.double() && b.Classes < 2*lanes {
			woven, skew = 4, 4
			if b.Classes > lanes {
				skew = 8
			}
		}
		// Partial sums of high levels wait in memory where there are too few registers.
		spilled := 9
		switch {
		case b.ISA == AVX2 && (b.Form != Uniform || b.double() || b.Classes > 2*lanes):
			spilled = 1
		case b.ISA == AVX2 || b.double() || b.Form != Uniform:
			spilled = 2
		case b.Classes > lanes:
			spilled = 3
		}
		spill := func(level, sum int, v vec) operand.Op {
			if level < spilled {
				return v
			}
			m := b.laneAt(partial, sum, level)
			b.storeF(v, m, nil)
			return nil
		}
		fill := func(level, sum int, v operand.Op) operand.Op {
			if v != nil {
				return v
			}
			return b.laneAt(partial, sum, level)
		}
		leaves := make([]sums, min(b.Classes, lanes))
		var tree func(lo, level int) sums
		tree = func(lo, level int) sums {
			var classes []int // in the order in which they are added up
			for l := lo; l < lo+1<<level && level <= 2; l++ {
				for k := l; k < b.Classes; k += lanes {
					classes = append(classes, k)
				}
			}
			if scheduled && 2 <= len(classes) && len(classes) <= 4 {
				return st.scheduled(x, fetch, classes)
			}
			if level == 0 {
				group := leaves[lo:min(lo+woven, len(leaves))]
				if lo%woven == 0 {
					b.weave(len(group), skew, func(i int) { group[i] = leaf(lo + i) })
				}
				return leaves[lo]
			}
			half := 1 << (level - 1)
			s := tree(lo, level-1)
			if lo+half >= len(leaves) {
				return s
			}
			e, d, a := spill(level, evenE, s.e), spill(level, sumD, s.d), operand.Op(nil)
			if s.a != nil {
				a = spill(level, sumA, s.a)
			}
			r := tree(lo+half, level-1)
			b.add(r.e, r.e, fill(level, evenE, e))
			b.add(r.d, r.d, fill(level, sumD, d))
			if s.a != nil {
				b.add(r.a, r.a, fill(level, sumA, a))
			}
			return r
		}
		s := tree(0, map[int]int{16: 4, 8: 3}[lanes])
		b.putRest(s.e, slot)
		b.put(s.d, "d", slot)
		if b.Form == Dense {
			b.put(s.a, "sumA", slot)
		}
		st.putTarget(slot)
	})
}

// scheduled adds up two to four classes.
func (st *planeState) scheduled(x reg.Register, fetch *stream, classes []int) sums {
	n, s := len(classes), make([]sums, len(classes))
	schedule := planeSchedules[n]
	st.interleave(2*n+1, schedule.order, func(piece int) {
		if piece == 2*n {
			for _, a := range schedule.adds {
				st.add(s[a[1]].d, s[a[1]].d, s[a[0]].d)
			}
			for _, a := range schedule.adds {
				st.add(s[a[1]].e, s[a[1]].e, s[a[0]].e)
			}
			return
		}
		m := operand.Mem{Base: x, Disp: classes[piece%n] * st.planeStep()}
		if s := &s[piece%n]; piece < n {
			s.d = st.difference(m)
			s.e = st.exponential(m, s.d)
		} else {
			st.prefetch(fetch)
			st.see(m, classes[piece%n])
		}
	})
	return s[n-1]
}

// sumExact is sum for a constant number of classes: every trip count is known, and no vector is without an element.
func (b *builder) sumExact() {
	const unrolled = 16 // vectors, at most, that are written out one by one
	b.docSum(" The number of classes is constant.")
	width, per, block := b.width(), 2*b.parts(), coef.BlockBytes/b.f()
	vectors := (b.Classes + width - 1) / width
	var last *tail
	if n := b.Classes % width; n != 0 {
		last = b.exactTail(n)
	}
	b.sumRows(func(r *rowSums) {
		if vectors <= unrolled && b.Classes <= block {
			r.clear()
			r.vectors(nil, vectors, last)
			r.store()
			return
		}
		k, end := b.GP64(), b.GP64()
		b.XORQ(k, k)
		groups := func() { // until end
			b.loop(k, end, per*width, func() { r.vectors(k, per, nil) })
		}
		if blocks := b.Classes / block; blocks > 0 { // whole ones
			limit := b.GP64()
			b.MOVQ(operand.I32(int32(blocks*block)), limit)
			b.loop(k, limit, 0, func() {
				r.clear()
				b.LEAQ(operand.Mem{Base: k, Disp: block}, end)
				groups()
				r.store()
			})
		}
		if left := b.Classes % block; left > 0 {
			r.clear()
			left = (left + width - 1) / width
			done := (left - 1) / per * per
			b.MOVQ(operand.I32(int32(b.Classes/block*block+done*width)), end)
			groups()
			r.vectors(k, left-done, last)
			r.store()
		}
	})
}
