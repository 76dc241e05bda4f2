package asm

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// planeSumUnrolled is planeSum for a constant number of classes: a tree of lanes in registers.
func (b *builder) planeSumUnrolled() {
	b.doc("is planeSum for a constant number of classes.")
	exp := b.expConstants()
	lanes := b.planeLanes()
	x, e, t, labels := b.planeArgs()
	step := b.load("planeStep")
	b.positions(func(slot reg.GPVirtual) {
		p := b.GP64()
		m := b.negInf()
		b.MOVQ(x, p)
		fetch, left, loop := b.prefetcher(slot), b.load("n"), b.label("fetch")
		b.Label(loop)
		fetch()
		b.DECQ(left)
		b.JNE(operand.LabelRef(loop))
		for k := range b.Classes {
			if k > 0 {
				b.ADDQ(step, p)
			}
			b.maxT(m, operand.Mem{Base: p})
		}
		b.put(m, "pivot", slot)
		st := b.newPlaneState(&exp, m, labels)
		pe, pt := b.GP64(), b.GP64()
		to := func(p, base reg.Register, k int) operand.Mem {
			switch k {
			case 0:
				return operand.Mem{Base: base}
			case 1, 2, 4, 8:
				return at(base, step, k, 0)
			}
			b.IMUL3Q(operand.Imm(uint64(k)), step, p)
			return at(base, p, 1, 0)
		}
		leaf := func(l int) (s sums) {
			var second vec
			for i, k := 0, l; k < b.Classes; i, k = i+1, k+lanes {
				var me, mt operand.Mem
				if e != nil {
					me = to(pe, e, k)
				}
				if t != nil {
					mt = to(pt, t, k)
				}
				one := st.class(to(p, x, k), me, mt, nil, k)
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
		// Partial sums of high levels wait in memory where there are too few registers.
		spilled := 9
		switch {
		case b.ISA == AVX2 && b.Form != Uniform:
			spilled = 1
		case b.ISA == AVX2 || b.double() || b.Form != Uniform:
			spilled = 2
		}
		spill := func(level int, name string, v vec) operand.Op {
			if level < spilled {
				return v
			}
			m := operand.Mem{Base: b.load(name), Disp: level * b.vectorBytes()}
			b.storeF(v, m, nil)
			return nil
		}
		fill := func(level int, name string, v operand.Op) operand.Op {
			if v != nil {
				return v
			}
			return operand.Mem{Base: b.load(name), Disp: level * b.vectorBytes()}
		}
		var tree func(lo, level int) sums
		tree = func(lo, level int) sums {
			if level == 0 {
				return leaf(lo)
			}
			half := 1 << (level - 1)
			s := tree(lo, level-1)
			if lo+half >= min(b.Classes, lanes) {
				return s
			}
			e, d, a := spill(level, "lanesE", s.e), spill(level, "lanesD", s.d), operand.Op(nil)
			if s.a != nil {
				a = spill(level, "lanesA", s.a)
			}
			r := tree(lo+half, level-1)
			if b.Classes == 2 { // the smaller exponential, the other being 1; NaN if one is
				small := b.vector()
				b.ps(b.VMINPS, b.VMINPD, r.e, s.e, small)
				b.add(r.e, r.e, s.e)
				b.mul(r.e, r.e, b.zero())
				b.add(r.e, r.e, small)
			} else {
				b.add(r.e, r.e, fill(level, "lanesE", e))
			}
			b.add(r.d, r.d, fill(level, "lanesD", d))
			if s.a != nil {
				b.add(r.a, r.a, fill(level, "lanesA", a))
			}
			return r
		}
		s := tree(0, map[int]int{16: 4, 8: 3}[lanes])
		if b.Classes == 2 {
			b.put(s.e, "rest", slot)
		} else {
			bias := b.vector()
			b.VBROADCASTSD(b.data.float64(-1), bias)
			b.doubles(s.e, func(i int, v vec) {
				b.VADDPD(bias, v, v)
				b.VMOVUPD(v, b.slots("rest", slot, i))
			})
		}
		b.put(s.d, "d", slot)
		if b.Form == Dense {
			b.put(s.a, "main", slot)
		}
		st.putTarget(slot)
	}, func() { b.nextPositions(x, e, t, labels) })
}
