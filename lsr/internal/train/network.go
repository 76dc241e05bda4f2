package train

import (
	"math"
	"math/rand/v2"

	"github.com/golsr/lsr"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// network is logits = relu(x·in + inBias)·outᵀ + outBias, with room for one batch. All matrices lie by rows; out is
// [classes, hidden], so that each product below runs along the hidden units.
type network struct {
	width, hidden, classes, batch int

	crit, plain *lsr.Criterion // to train by, and without smoothing

	in, out layer

	x      []float32 // [batch, width]
	h, dh  []float32 // [batch, hidden]: after the relu, and its gradient
	logits []float32 // [batch, classes]; their gradient, in training
	ones   []float32 // [batch]

	guesses         []uint8
	confidence, lse []float64
}

// layer is weights and biases and what momentum has gathered for them.
type layer struct {
	weights, weightsV, bias, biasV []float32
}

// newNetwork draws the weights as He et al. do (Delving Deep into Rectifiers, 2015): normal, of variance 2 over the number
// of inputs; 1 over it for the logits, which no relu follows.
func newNetwork(width, hidden, classes, batch int, epsilon float64, r *rand.Rand) (*network, error) {
	// The trainings run in parallel already.
	crit, err := lsr.New(lsr.Smoothing(epsilon), lsr.Workers(1))
	if err != nil {
		return nil, err
	}
	plain, err := crit.With(lsr.Smoothing(0))
	if err != nil {
		return nil, err
	}
	draw := func(inputs, outputs int, variance float64) layer {
		l := layer{
			weights:  make([]float32, inputs*outputs),
			weightsV: make([]float32, inputs*outputs),
			bias:     make([]float32, outputs),
			biasV:    make([]float32, outputs),
		}
		for i := range l.weights {
			l.weights[i] = float32(r.NormFloat64() * math.Sqrt(variance/float64(inputs)))
		}
		return l
	}
	n := &network{
		width: width, hidden: hidden, classes: classes, batch: batch,
		crit: crit, plain: plain,
		in:         draw(width, hidden, 2),
		out:        draw(hidden, classes, 1),
		x:          make([]float32, batch*width),
		h:          make([]float32, batch*hidden),
		dh:         make([]float32, batch*hidden),
		logits:     make([]float32, batch*classes),
		ones:       make([]float32, batch),
		guesses:    make([]uint8, batch),
		confidence: make([]float64, batch),
		lse:        make([]float64, batch),
	}
	for i := range n.ones {
		n.ones[i] = 1
	}
	return n, nil
}

// image is where row i of the batch goes.
func (n *network) image(i int) []float32 { return n.x[i*n.width : (i+1)*n.width] }

func matrix(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data[:rows*cols]}
}

func vector(data []float32) blas32.Vector { return blas32.Vector{N: len(data), Inc: 1, Data: data} }

// forward computes the logits of the first rows of x.
func (n *network) forward(rows int) {
	for i := range rows {
		copy(n.h[i*n.hidden:], n.in.bias)
		copy(n.logits[i*n.classes:], n.out.bias)
	}
	h := matrix(rows, n.hidden, n.h)
	blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, matrix(rows, n.width, n.x), matrix(n.width, n.hidden, n.in.weights), 1, h)
	for i, v := range h.Data {
		h.Data[i] = max(v, 0)
	}
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, h, matrix(n.classes, n.hidden, n.out.weights), 1, matrix(rows, n.classes, n.logits))
}

// step learns from the first len(targets) rows of x and returns their mean loss. Momentum is v = momentum·v + gradient,
// weights −= rate·v (as PyTorch's SGD has it); the gradient is added to v where it is computed.
func (n *network) step(targets []uint8, rate, momentum float64) (float64, error) {
	rows := len(targets)
	n.forward(rows)
	batch := lsr.Rows(n.logits[:rows*n.classes], n.classes)
	res, err := lsr.Grad(n.crit, batch, batch, targets)
	if err != nil {
		return 0, err
	}

	mu := float32(momentum)
	x, h, dh := matrix(rows, n.width, n.x), matrix(rows, n.hidden, n.h), matrix(rows, n.hidden, n.dh)
	dlogits, ones := matrix(rows, n.classes, n.logits), vector(n.ones[:rows])
	blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, dlogits, matrix(n.classes, n.hidden, n.out.weights), 0, dh)
	for i, v := range h.Data {
		if v == 0 {
			dh.Data[i] = 0
		}
	}
	blas32.Gemm(blas.Trans, blas.NoTrans, 1, dlogits, h, mu, matrix(n.classes, n.hidden, n.out.weightsV))
	blas32.Gemv(blas.Trans, 1, dlogits, ones, mu, vector(n.out.biasV))
	blas32.Gemm(blas.Trans, blas.NoTrans, 1, x, dh, mu, matrix(n.width, n.hidden, n.in.weightsV))
	blas32.Gemv(blas.Trans, 1, dh, ones, mu, vector(n.in.biasV))
	for _, l := range []*layer{&n.in, &n.out} {
		blas32.Axpy(float32(-rate), vector(l.weightsV), vector(l.weights))
		blas32.Axpy(float32(-rate), vector(l.biasV), vector(l.bias))
	}
	return res.Loss, nil
}

// predict returns for the first len(targets) rows of x the mean of −log p of their targets, the likeliest classes and
// their probabilities. The slices are good until the next call.
func (n *network) predict(targets []uint8) (nll float64, guesses []uint8, confidence []float64, err error) {
	rows := len(targets)
	n.forward(rows)
	res, err := lsr.Forward(n.plain, lsr.Rows(n.logits[:rows*n.classes], n.classes), targets, lsr.PerRow{LSE: n.lse[:rows]})
	if err != nil {
		return 0, nil, nil, err
	}
	for i := range rows {
		row := n.logits[i*n.classes : (i+1)*n.classes]
		best := 0
		for k, v := range row {
			if v > row[best] {
				best = k
			}
		}
		n.guesses[i] = uint8(best)
		n.confidence[i] = math.Exp(float64(row[best]) - n.lse[i])
	}
	return res.NLL, n.guesses[:rows], n.confidence[:rows], nil
}
