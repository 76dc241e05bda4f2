package lsr

import (
	"math"
	"math/big"
)

// This file is the oracle: the formulas of the textbook in numbers of 240 bits. It shares no code with the package.

const refPrec = 240

func refNew() *big.Float                { return new(big.Float).SetPrec(refPrec) }
func refOf(v float64) *big.Float        { return refNew().SetFloat64(v) }
func refAdd(a, b *big.Float) *big.Float { return refNew().Add(a, b) }
func refSub(a, b *big.Float) *big.Float { return refNew().Sub(a, b) }
func refMul(a, b *big.Float) *big.Float { return refNew().Mul(a, b) }
func refQuo(a, b *big.Float) *big.Float { return refNew().Quo(a, b) }

func refFloat(a *big.Float) float64 {
	f, _ := a.Float64()
	return f
}

// refLn2 is Σ 1/(k·2ᵏ).
var refLn2 = func() *big.Float {
	s, p := refNew(), refOf(1)
	for k := 1; k < refPrec+20; k++ {
		p.SetMantExp(p, -1)
		s.Add(s, refQuo(p, refOf(float64(k))))
	}
	return s
}()

// refExp is eˣ: x = n·ln2 + r, Taylor's series at r/2¹⁶, and 16 squarings. Below −10⁵ it is 0.
func refExp(x *big.Float) *big.Float {
	f := refFloat(x)
	if f < -1e5 {
		return refNew()
	}
	n := math.Round(f / math.Ln2)
	r := refSub(x, refMul(refOf(n), refLn2))
	r.SetMantExp(r, -16)
	s, term := refOf(1), refOf(1)
	for k := 1; k <= 14; k++ {
		term.Mul(term, r)
		term.Quo(term, refOf(float64(k)))
		s.Add(s, term)
	}
	for range 16 {
		s.Mul(s, s)
	}
	return s.SetMantExp(s, int(n))
}

// refExps remembers exponentials of differences: tests use the same logits many times.
var refExps = map[[2]float64]*big.Float{}

// refExpOf is e^(x−m). The result must not be changed.
func refExpOf(x, m float64) *big.Float {
	e, ok := refExps[[2]float64{x, m}]
	if !ok {
		if len(refExps) > 1<<14 {
			clear(refExps)
		}
		e = refExp(refSub(refOf(x), refOf(m)))
		refExps[[2]float64{x, m}] = e
	}
	return e
}

// refLog is ln x by Halley's iteration for eʸ = x, which triples the digits of math.Log.
func refLog(x *big.Float) *big.Float {
	mant := refNew()
	e := x.MantExp(mant)
	y := refOf(math.Log(refFloat(mant)))
	for range 3 {
		v := refExp(y)
		y.Add(y, refQuo(refMul(refOf(2), refSub(mant, v)), refAdd(mant, v)))
	}
	if e == 1 { // x in [1, 2): ln x = ln mant + ln 2 cancels near 1, so start from x itself
		y = refOf(math.Log(refFloat(x)))
		for range 3 {
			v := refExp(y)
			y.Add(y, refQuo(refMul(refOf(2), refSub(x, v)), refAdd(x, v)))
		}
		return y
	}
	return y.Add(y, refMul(refOf(float64(e)), refLn2))
}

// refOptions are the options of a criterion in the oracle's terms.
type refOptions struct {
	smoothing      float64
	prior, weights []float64
	ignores        bool
	ignore         int64
	reduction      Reduction
	denominator    float64
	zloss          float64
	mask, emptyNaN bool
	upstream       []float64
}

// options are those of the package.
func (o *refOptions) options() []Option {
	s := []Option{Smoothing(o.smoothing), Prior(o.prior), Weights(o.weights), Reduce(o.reduction), ZLoss(o.zloss)}
	if o.ignores {
		s = append(s, IgnoreIndex(o.ignore))
	}
	if o.denominator != 0 {
		s = append(s, Denominator(o.denominator))
	}
	if o.mask {
		s = append(s, MaskNegInf())
	}
	if o.emptyNaN {
		s = append(s, EmptyNaN())
	}
	return s
}

// quantity is a real number, or NaN or +Inf. tol is the error that an implementation in the element's precision may have.
type quantity struct {
	v       *big.Float
	special float64 // if not 0
	tol     float64
}

func (q *quantity) float() float64 {
	if q.special != 0 {
		return q.special
	}
	return refFloat(q.v)
}

// error is |got − q|, or +Inf where one of the two is a special value and the other is not the same.
func (q *quantity) error(got float64) float64 {
	if q.special != 0 {
		if got == q.special || got != got && q.special != q.special {
			return 0
		}
		return math.Inf(1)
	}
	if math.IsNaN(got) || math.IsInf(got, 0) {
		return math.Inf(1)
	}
	return math.Abs(refFloat(refSub(q.v, refOf(got))))
}

func (q *quantity) agrees(got float64) bool { return q.error(got) <= q.tol }

// precision is that of the type that rows are computed in.
type precision struct {
	bits     int     // of the mantissa, with the hidden one
	min, eta float64 // smallest normal and subnormal number
}

var (
	single = precision{24, 0x1p-126, 0x1p-149}
	double = precision{53, 0x1p-1022, 0x1p-1074}
)

// ulp is the unit in the last place of v.
func (p precision) ulp(v float64) float64 {
	if v = math.Abs(v); v < p.min {
		return p.eta
	}
	return math.Ldexp(1, math.Ilogb(v)+1-p.bits)
}

// The limits on errors, in ulp.
const (
	lossLimit  = 6
	gradLimit  = 8
	gradFactor = 2 // × (|x_j − max x| + max x − x_y), see refOne
)

// refRow is what the oracle finds for one row.
type refRow struct {
	loss, lse, nll quantity // loss without z
	z              quantity
	grad, gradz    []quantity // without reduction; the parts that the two denominators divide
	correct        bool
	weight         float64
}

func refSpecialRow(classes int, v float64) (r refRow) {
	q := quantity{special: v}
	r = refRow{loss: q, lse: q, nll: q, z: quantity{v: refNew()}}
	for range classes {
		r.grad = append(r.grad, q)
		r.gradz = append(r.gradz, quantity{v: refNew()})
	}
	return r
}

// refOne is the oracle for one row with an index target (t nil) or a distribution target.
func refOne(x []float64, y int, t []float64, o *refOptions, prec precision) (r refRow) {
	classes := len(x)
	defer func() { r.correct = t == nil && refTop(x) == y }()
	top, bad, badTarget := math.Inf(-1), false, false
	for k, v := range x {
		top = max(top, v)
		bad = bad || v != v || math.IsInf(v, 1)
		badTarget = badTarget || t != nil && t[k] != t[k]
	}
	if badTarget && !bad && !math.IsInf(top, -1) { // all of the row but log-sum-exp
		r = refSpecialRow(classes, math.NaN())
		r.lse = refOne(x, -1, make([]float64, classes), o, prec).lse
		r.weight = 1
		return r
	}
	if bad || math.IsInf(top, -1) {
		r = refSpecialRow(classes, math.NaN())
		if t == nil && o.weights != nil {
			r.weight = o.weights[y]
		} else {
			r.weight = 1
		}
		return r
	}
	m, s := refOf(top), refNew()
	e, d := make([]*big.Float, classes), make([]*big.Float, classes) // e^(x−m), x−m; nil for −Inf
	for k, v := range x {
		if e[k] = refNew(); math.IsInf(v, -1) {
			continue
		}
		d[k] = refSub(refOf(v), m)
		e[k] = refExpOf(v, top)
		s.Add(s, e[k])
	}
	log := refLog(s)

	// q_k·w_k, the coefficients of −log p_k, in two parts.
	eps, keep := refOf(o.smoothing), refSub(refOf(1), refOf(o.smoothing))
	share, present := make([]*big.Float, classes), refNew()
	for k := range x {
		share[k] = refQuo(refOf(1), refOf(float64(classes)))
		if o.prior != nil {
			share[k] = refOf(o.prior[k])
		}
		if o.mask && d[k] == nil {
			share[k] = refNew()
		}
		present.Add(present, share[k])
	}
	q, total, abs := make([]*big.Float, classes), refNew(), refNew()
	r.weight = 1
	for k := range x {
		u := share[k]
		if o.mask && present.Sign() != 0 {
			u = refQuo(u, present)
		}
		w := refOf(1)
		if o.weights != nil {
			w = refOf(o.weights[k])
		}
		q[k] = refMul(eps, u)
		switch {
		case t != nil:
			q[k] = refAdd(q[k], refMul(keep, refOf(t[k])))
		case k == y:
			q[k] = refAdd(q[k], keep)
			r.weight = refFloat(w)
		}
		q[k] = refMul(q[k], w)
		total.Add(total, q[k])
		abs.Add(abs, refNew().Abs(q[k]))
	}
	loss, inf := refNew(), false
	for k := range x {
		if q[k].Sign() == 0 {
			continue
		}
		if d[k] == nil {
			inf = true
			continue
		}
		loss.Add(loss, refMul(q[k], refSub(log, d[k])))
	}
	lse := refAdd(m, log)
	logTol := lossLimit * prec.ulp(max(refFloat(log), 1))
	r.lse = quantity{v: lse, tol: logTol + 2*double.ulp(refFloat(lse))}
	r.loss = quantity{v: loss, tol: lossLimit * prec.ulp(max(math.Abs(refFloat(loss)), refFloat(abs), 1))}
	if o.prior != nil || o.weights != nil || t != nil { // coefficients are rounded to the element's precision
		r.loss.tol += 2 * prec.ulp(refFloat(abs)*refFloat(log))
	}
	if inf {
		r.loss.special = math.Inf(1)
	}
	r.nll = quantity{special: math.NaN()}
	if t == nil {
		if r.nll = (quantity{special: math.Inf(1)}); d[y] != nil {
			nll := refSub(log, d[y])
			r.nll = quantity{v: nll, tol: lossLimit * prec.ulp(max(refFloat(nll), 1))}
		}
	}
	lambda := refOf(o.zloss)
	z := refMul(lambda, refMul(lse, lse))
	r.z = quantity{v: z, tol: 2*o.zloss*math.Abs(refFloat(lse))*r.lse.tol + 8*double.ulp(refFloat(z))}
	zg := refMul(refMul(refOf(2), lambda), lse)
	for j := range x {
		p := refQuo(e[j], s)
		g := refSub(refMul(p, total), q[j])
		limit := float64(gradLimit)
		if d[j] != nil {
			limit -= gradFactor * refFloat(d[j])
		}
		pf := refFloat(p)
		size := pf*refFloat(abs) + math.Abs(refFloat(q[j]))
		r.grad = append(r.grad, quantity{v: g, tol: limit*prec.ulp(size) + prec.min*max(1, refFloat(abs))})
		gz := refMul(zg, p)
		r.gradz = append(r.gradz, quantity{v: gz, tol: limit*prec.ulp(refFloat(gz)) + 2*o.zloss*pf*r.lse.tol +
			prec.min*math.Abs(refFloat(zg))})
	}
	return r
}

// refTop is the first of the largest logits, or −1 if there is a NaN.
func refTop(x []float64) int {
	first := 0
	for k, v := range x {
		if v != v {
			return -1
		}
		if v > x[first] {
			first = k
		}
	}
	return first
}

// refBatch is what the oracle finds for a batch.
type refBatch struct {
	rows    []refRow
	ignored []bool
	loss    quantity
	nll     quantity
	kept    int
	correct int
	grad    [][]quantity
}

// refAll is the oracle for a batch with index targets (t nil) or distribution targets.
func refAll(x [][]float64, y []int64, t [][]float64, o *refOptions, prec precision) (b refBatch) {
	b.ignored = make([]bool, len(x))
	weight := refNew()
	for i := range x {
		var r refRow
		switch {
		case t != nil:
			r = refOne(x[i], -1, t[i], o, prec)
		case o.ignores && y[i] == o.ignore:
			b.ignored[i] = true
		default:
			r = refOne(x[i], int(y[i]), nil, o, prec)
		}
		if !b.ignored[i] {
			b.kept++
			if t != nil {
				r.weight = 1
			}
			weight.Add(weight, refOf(r.weight))
			if r.correct {
				b.correct++
			}
		}
		b.rows = append(b.rows, r)
	}
	den, denz := refOf(1), refOf(1)
	empty := false
	if o.reduction == Mean {
		den, denz = weight, refOf(float64(b.kept))
		if o.denominator != 0 {
			den, denz = refOf(o.denominator), refOf(o.denominator)
		}
		empty = den.Sign() == 0
	}
	b.loss, b.nll = quantity{v: refNew()}, quantity{v: refNew()}
	if b.kept == 0 && o.emptyNaN {
		b.nll.special = math.NaN()
	}
	for i := range b.rows {
		if r := &b.rows[i]; !b.ignored[i] {
			b.nll = refSum(b.nll, r.nll, refOf(float64(b.kept)))
			if !empty {
				b.loss = refSum(refSum(b.loss, r.loss, den), r.z, denz)
			}
		}
	}
	b.loss.tol += 1e-12 * math.Abs(refFloat(b.loss.v))
	b.nll.tol += 1e-12 * math.Abs(refFloat(b.nll.v))
	if o.reduction == None || empty && o.emptyNaN {
		b.loss = quantity{special: math.NaN()}
	}
	for i := range b.rows {
		up := 1.0
		if len(o.upstream) == 1 {
			up = o.upstream[0]
		} else if o.upstream != nil {
			up = o.upstream[i]
		}
		row := make([]quantity, len(x[i]))
		for k := range row {
			row[k] = quantity{v: refNew()}
			if r := &b.rows[i]; !b.ignored[i] && !empty {
				row[k] = refSum(row[k], r.grad[k], den)
				row[k] = refSum(row[k], r.gradz[k], denz)
				if row[k].special == 0 {
					row[k].v = refMul(row[k].v, refOf(up))
					row[k].tol = row[k].tol*math.Abs(up) + prec.eta
				}
			}
		}
		b.grad = append(b.grad, row)
	}
	return b
}

// refSum is a + b/den.
func refSum(a, b quantity, den *big.Float) quantity {
	if b.special != 0 || a.special != 0 {
		return quantity{special: a.special + b.special, v: refNew()}
	}
	return quantity{v: refAdd(a.v, refQuo(b.v, den)), tol: a.tol + b.tol/refFloat(den)}
}
