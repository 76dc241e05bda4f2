package lsr

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Reduction says what becomes of the row losses.
type Reduction int

const (
	// Mean divides the sum of the row losses by the sum of the weights of their targets (index targets), or by the
	// number of rows (distribution targets), or by [Denominator].
	Mean Reduction = iota
	// Sum adds the row losses.
	Sum
	// None leaves the row losses as they are: read them from [PerRow]. Gradients are those of the sum.
	None
)

// String is the reduction's name as PyTorch has it: mean, sum or none.
func (r Reduction) String() string {
	switch r {
	case Mean:
		return "mean"
	case Sum:
		return "sum"
	case None:
		return "none"
	}
	return fmt.Sprintf("Reduction(%d)", int(r))
}

// Criterion is the loss with its options. It is immutable and safe for concurrent use. Make it with [New].
type Criterion struct {
	smoothing   float64
	prior       []float64 // nil: uniform
	weights     []float64 // nil: 1 for every class
	ignore      int64
	ignores     bool
	reduction   Reduction
	denominator float64 // 0: not given
	zloss       float64
	mask        bool
	emptyNaN    bool
	top1        bool
	workers     int // 0: as many as GOMAXPROCS

	isa isa

	// Made from smoothing, prior and weights, where there is one of the latter two.
	stale   bool // to be made again
	v32     vectors[float32]
	v64     vectors[float64]
	coefSum float64 // Σ u_k·w_k
}

// Option is one setting of a [Criterion].
type Option func(*Criterion) error

// New makes a criterion: smoothing 0.01 over a uniform prior and the mean reduction, unless the options say otherwise.
// The error says what an option expected and what came.
func New(options ...Option) (*Criterion, error) {
	if preferredErr != nil {
		return nil, preferredErr
	}
	return (&Criterion{smoothing: 0.01, isa: preferred, stale: true}).With(options...)
}

var errNoCriterion = errors.New("lsr: criterion is nil: make it with New")

// With is a copy of the criterion with some options changed, for instance the [Denominator] of the next step.
func (c *Criterion) With(options ...Option) (*Criterion, error) {
	if c == nil {
		return nil, errNoCriterion
	}
	d := *c
	for i, option := range options {
		if option == nil {
			return nil, fmt.Errorf("lsr: option %d is nil, expected one that this package makes", i)
		}
		if err := option(&d); err != nil {
			return nil, err
		}
	}
	if d.denominator != 0 && d.reduction != Mean {
		return nil, fmt.Errorf("lsr: a denominator goes with the reduction mean, got %v", d.reduction)
	}
	if d.prior != nil && d.weights != nil && len(d.prior) != len(d.weights) {
		return nil, fmt.Errorf("lsr: prior has %d classes and weights have %d", len(d.prior), len(d.weights))
	}
	if d.stale {
		d.combine()
	}
	return &d, nil
}

// combine multiplies prior, weights and smoothing.
func (c *Criterion) combine() {
	n := max(len(c.prior), len(c.weights))
	c.stale = false
	c.v32, c.v64, c.coefSum = vectors[float32]{}, vectors[float64]{}, 1
	if n == 0 {
		return
	}
	var sum twofold
	for k := range n {
		a, w := c.priorOf(k, n), 1.0
		if c.weights != nil {
			w = c.weights[k]
			a *= w
		}
		c.v32.add(a, w, c.smoothing)
		c.v64.add(a, w, c.smoothing)
		sum.add(a)
	}
	c.coefSum = sum.plus(0)
}

// add adds a class with u_k·w_k = a and w_k = w.
func (v *vectors[F]) add(a, w, smoothing float64) {
	v.coef = append(v.coef, F(a))
	v.u = append(v.u, F(smoothing*a))
	v.w = append(v.w, F((1-smoothing)*w))
}

// Smoothing sets ε in [0, 1], the share of the target that is spread over all K classes, the true one too (Szegedy et
// al. 2016, section 7; PyTorch, Keras, optax, timm). See [SmoothingOverOthers] for the other convention.
func Smoothing(epsilon float64) Option {
	return func(c *Criterion) error {
		if !(epsilon >= 0 && epsilon <= 1) {
			return fmt.Errorf("lsr: smoothing must be in [0, 1], got %v", epsilon)
		}
		c.smoothing, c.stale = epsilon, true
		return nil
	}
}

// SmoothingOverOthers converts a smoothing that is spread over the K−1 other classes (Megatron, some forks of fairseq)
// to the one that [Smoothing] takes: ε·K/(K−1). With one class there are no others: the result is ε.
func SmoothingOverOthers(epsilon float64, classes int) float64 {
	if classes <= 1 {
		return epsilon
	}
	return epsilon * float64(classes) / float64(classes-1)
}

// Prior sets the distribution u that the smoothing spreads over, one entry ≥ 0 for each class; their sum may be off 1 by
// 1e-5. Nil, or an empty one, is the uniform prior.
func Prior(u []float64) Option {
	return func(c *Criterion) error {
		sum := 0.0
		for k, v := range u {
			if !(v >= 0) {
				return fmt.Errorf("lsr: prior of class %d must be at least 0, got %v", k, v)
			}
			sum += v
		}
		if len(u) == 0 {
			u = nil
		} else if math.Abs(sum-1) > 1e-5 {
			return fmt.Errorf("lsr: prior must sum to 1 (within 1e-5), got %v", sum)
		}
		c.prior, c.stale = slices.Clone(u), true
		return nil
	}
}

// Weights sets a weight for each class, in the way of PyTorch: a row's loss is Σ_k q_k·w_k·(−log p_k), and the mean over
// index targets divides by the sum of the weights of the targets. A weight is 0, or from 1e-15 to 1e15, so that products and
// quotients of weights fit float32. Nil, or an empty slice, is 1 for every class.
func Weights(w []float64) Option {
	return func(c *Criterion) error {
		for k, v := range w {
			if v != 0 && !(v >= 1e-15 && v <= 1e15) {
				return fmt.Errorf("lsr: weight of class %d must be 0 or from 1e-15 to 1e15, got %v", k, v)
			}
		}
		if len(w) == 0 {
			w = nil
		}
		c.weights, c.stale = slices.Clone(w), true
		return nil
	}
}

// IgnoreIndex sets the target, any number, whose rows have no loss and a gradient of zeros. None is set by default.
func IgnoreIndex(target int64) Option {
	return func(c *Criterion) error {
		c.ignore, c.ignores = target, true
		return nil
	}
}

// Reduce sets the reduction.
func Reduce(r Reduction) Option {
	return func(c *Criterion) error {
		if r < Mean || r > None {
			return fmt.Errorf("lsr: reduction must be mean, sum or none, got %v", r)
		}
		c.reduction = r
		return nil
	}
}

// Denominator sets what the mean divides by, all terms alike: gradient accumulation divides each micro-batch by the
// count of the whole batch. It must be finite and above 0, and goes with [Mean] only.
func Denominator(d float64) Option {
	return func(c *Criterion) error {
		if !(d > 0) || math.IsInf(d, 0) {
			return fmt.Errorf("lsr: denominator must be finite and above 0, got %v", d)
		}
		c.denominator = d
		return nil
	}
}

// ZLoss adds λ·logsumexp(logits)² to each row's loss, λ finite and at least 0. Its part of the mean divides by the number
// of rows not ignored.
func ZLoss(lambda float64) Option {
	return func(c *Criterion) error {
		if !(lambda >= 0) || math.IsInf(lambda, 0) {
			return fmt.Errorf("lsr: z-loss factor must be finite and at least 0, got %v", lambda)
		}
		c.zloss = lambda
		return nil
	}
}

// MaskNegInf lets classes whose logit is −Inf leave the softmax and the prior, which is renormalized over the rest, or is 0
// if it has nothing there. The loss is finite then, unless the target itself is masked. To look for them takes some 1 ns a logit;
// rows that have some go one by one, which takes 2 to 4, with a prior or class weights 10 to 12.
func MaskNegInf() Option {
	return func(c *Criterion) error {
		c.mask = true
		return nil
	}
}

// EmptyNaN makes the mean over no rows, or over weights that sum to 0, NaN, as PyTorch has it, instead of 0. The gradient
// is 0 either way.
func EmptyNaN() Option {
	return func(c *Criterion) error {
		c.emptyNaN = true
		return nil
	}
}

// Top1 asks for [Result].Correct. It costs one more look at the logits, and at distribution targets, and some 20 ns a row.
func Top1() Option {
	return func(c *Criterion) error {
		c.top1 = true
		return nil
	}
}

// Workers limits how many goroutines a call may use; 0, the default, is GOMAXPROCS. Results do not depend on it.
func Workers(n int) Option {
	return func(c *Criterion) error {
		if n < 0 {
			return fmt.Errorf("lsr: workers must be at least 0, got %d", n)
		}
		c.workers = n
		return nil
	}
}

// fits says whether the criterion's vectors have one entry for each class.
func (c *Criterion) fits(classes int) error {
	if c.prior != nil && len(c.prior) != classes {
		return fmt.Errorf("lsr: prior has %d entries, expected one for each of %d classes", len(c.prior), classes)
	}
	if c.weights != nil && len(c.weights) != classes {
		return fmt.Errorf("lsr: weights have %d entries, expected one for each of %d classes", len(c.weights), classes)
	}
	return nil
}
