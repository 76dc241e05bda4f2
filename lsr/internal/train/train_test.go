package train

import (
	"bytes"
	"context"
	"image/png"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/lsr/internal/digits"
)

func load(t *testing.T) *digits.Dataset {
	t.Helper()
	data, err := digits.Load()
	require.NoError(t, err)
	return data
}

// tiny is a plan that takes a few milliseconds.
func tiny() Config {
	c := Defaults()
	c.Epsilons, c.Seeds, c.TrainRows, c.Epochs, c.Hidden = []float64{0.1, 0}, 2, 200, 3, 16
	return c
}

func TestLearns(t *testing.T) {
	c := Defaults()
	c.Epsilons, c.Noise, c.Seeds, c.Epochs = []float64{0, 0.1}, 0, 1, 10
	r, err := Run(t.Context(), load(t), c, nil)
	require.NoError(t, err)
	require.Len(t, r.Groups, 2)
	assert.Equal(t, []int{1000, 797, 64, 10}, []int{r.TrainRows, r.TestRows, r.Width, r.Classes})
	for _, g := range r.Groups {
		assert.Greater(t, g.Accuracy.Mean, 0.85, "smoothing %v", g.Epsilon)
		assert.Less(t, g.NLL.Mean, 1.0, "smoothing %v", g.Epsilon)
		total := 0
		for _, b := range g.Bins {
			total += b.Count
		}
		assert.Equal(t, r.TestRows, total)
	}
}

// The report is the same for every number of workers and every time, and progress counts up to the end.
func TestDeterministic(t *testing.T) {
	data := load(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first *Report
	for _, workers := range []int{1, 2, 5, 1} {
		runtime.GOMAXPROCS(workers)
		var calls []int
		start := time.Now()
		r, err := Run(t.Context(), data, tiny(), func(done, total int) {
			assert.Equal(t, 8, total)
			calls = append(calls, done)
		})
		require.NoError(t, err)
		assert.Less(t, time.Since(start), 5*time.Second)
		assert.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8}, calls)
		if first == nil {
			first = r
		}
		assert.Equal(t, first, r, "%d workers", workers)
	}

	c := tiny()
	c.Seed = 2
	r, err := Run(t.Context(), data, c, nil)
	require.NoError(t, err)
	assert.Equal(t, first.Groups[0].Trials[1], r.Groups[0].Trials[0], "a trial depends on its seed alone")
	assert.NotEqual(t, first.Groups[0].Trials[0], r.Groups[0].Trials[0])
}

func TestSplitAndCorrupt(t *testing.T) {
	data := load(t)
	training, test := split(data, 1000, 7)
	seen := map[int]bool{}
	for _, row := range append(append([]int{}, training...), test...) {
		seen[row] = true
	}
	assert.Len(t, training, 1000)
	assert.Len(t, test, 797)
	assert.Len(t, seen, 1797)

	labels := corrupt(data, training, 0.2, 7)
	wrong, shifts := 0, map[int]int{}
	for i, row := range training {
		if labels[i] != data.Labels[row] {
			wrong++
			shifts[(int(labels[i])-int(data.Labels[row])+10)%10]++
		}
		assert.Less(t, labels[i], uint8(10))
	}
	assert.Equal(t, 200, wrong)
	assert.Len(t, shifts, 9, "every other class occurs")
	assert.Equal(t, labels, corrupt(data, training, 0.2, 7))

	divided := *data
	divided.Train = 1200
	training, test = split(&divided, 100, 7)
	assert.Len(t, training, 100)
	assert.Len(t, test, 597)
	for _, row := range training {
		assert.Less(t, row, 1200)
	}
	assert.Equal(t, 1200, test[0])
}

// The gradient that a step gathers is the difference quotient of the loss.
func TestGradient(t *testing.T) {
	const width, hidden, classes, rows = 5, 7, 4, 6
	r := random(1, 99)
	net, err := newNetwork(width, hidden, classes, rows, 0.1, r)
	require.NoError(t, err)
	targets := make([]uint8, rows)
	for i := range targets {
		targets[i] = uint8(r.IntN(classes))
	}
	for i := range net.x {
		net.x[i] = float32(r.NormFloat64())
	}
	loss := func() float64 {
		l, err := net.step(targets, 0, 0) // a step of length 0
		require.NoError(t, err)
		return l
	}
	loss()
	for name, p := range map[string]struct{ value, gradient []float32 }{
		"in.weights":  {net.in.weights, net.in.weightsV},
		"in.bias":     {net.in.bias, net.in.biasV},
		"out.weights": {net.out.weights, net.out.weightsV},
		"out.bias":    {net.out.bias, net.out.biasV},
	} {
		for i := range p.value {
			const h = 1.0 / 512
			got, was := float64(p.gradient[i]), p.value[i]
			p.value[i] = was + h
			up := loss()
			p.value[i] = was - h
			down := loss()
			p.value[i] = was
			loss()
			assert.InDelta(t, (up-down)/(2*h), got, 1e-3, "%s[%d]", name, i)
		}
	}
}

func TestECE(t *testing.T) {
	ece, bins := ECE(nil, nil)
	assert.Zero(t, ece)
	assert.Zero(t, bins)

	// |1/2 − 0.9|·2/4 in one bin, |1 − 0.35| and |0 − 0.55| of 1/4 each in two others.
	ece, bins = ECE([]float64{0.9, 0.9, 0.35, 0.55}, []bool{true, false, true, false})
	assert.InDelta(t, 0.5*0.4+0.25*0.65+0.25*0.55, ece, 1e-15)
	assert.Equal(t, Bin{2, 0.9, 0.5}, bins[13])
	assert.Equal(t, Bin{1, 0.35, 1}, bins[5])
	assert.Equal(t, Bin{1, 0.55, 0}, bins[8])

	// A bin holds its upper bound; what rounding puts outside [0, 1] is in the outermost ones.
	_, bins = ECE([]float64{0, 1.0 / 15, 0.2, 1, math.Nextafter(1, 2)}, make([]bool, 5))
	assert.Equal(t, 2, bins[0].Count)
	assert.Equal(t, 1, bins[2].Count)
	assert.Equal(t, 2, bins[14].Count)

	// Sure and always right.
	ece, _ = ECE([]float64{1, 1, 1}, []bool{true, true, true})
	assert.Zero(t, ece)
}

func TestStat(t *testing.T) {
	assert.Equal(t, Stat{5, 2}, stat([]float64{3, 5, 7}))
	assert.InDelta(t, 2/math.Sqrt(3), stat([]float64{3, 5, 7}).SE(3), 1e-15)
	one := stat([]float64{3})
	assert.Equal(t, 3.0, one.Mean)
	assert.True(t, math.IsNaN(one.SD))
}

// made is a report with made-up trials: accuracies by smoothing, then by seed.
func made(noise float64, epsilons []float64, groups ...[]float64) *Report {
	c := Defaults()
	c.Noise, c.Epsilons, c.Seeds = noise, epsilons, len(groups[0])
	r := newReport(&digits.Dataset{Labels: make([]uint8, 1100), Width: 64, Classes: 10}, c)
	for g := range r.Groups {
		for s := range r.Groups[g].Trials {
			r.Groups[g].Trials[s].Accuracy = groups[g][s]
		}
	}
	r.summarize()
	return r
}

func TestAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		report *Report
		want   []string
	}{
		"helped":  {made(0, []float64{0, 0.1}, []float64{.80, .90, .85}, []float64{.81, .92, .86}), []string{"With right labels, smoothing helped accuracy (+1.33 ± 0.33 points at 0.1); no measurable difference in NLL"}},
		"hurt":    {made(0, []float64{0.1, 0}, []float64{.80, .90, .85}, []float64{.81, .92, .86}), []string{"smoothing hurt, even where it hurt least, accuracy (-1.33 ± 0.33 points at 0.1)"}},
		"neither": {made(0, []float64{0, 0.1}, []float64{.80, .90, .85}, []float64{.81, .88, .86}), []string{"no measurable difference in accuracy (+0.00 ± 1.00 points at 0.1), NLL"}},
		"best": {made(0, []float64{0, 0.1, 0.2}, []float64{.8, .9}, []float64{.81, .91}, []float64{.82, .92}),
			[]string{"helped accuracy (+2.00 ± 0.00 points at 0.2)", "which flatters it"}},
		"noise": {made(.25, []float64{0, 0.1}, []float64{.5, .6}, []float64{.6, .7}, []float64{.9, .9}, []float64{.8, .8}),
			[]string{"With 25 % of the training labels wrong, smoothing helped accuracy (+10.00", "With right labels, smoothing hurt, even where it hurt least, accuracy (-10.00"}},
		"one seed": {made(0, []float64{0, 0.1}, []float64{.8}, []float64{.9}), []string{"no answer"}},
		"no zero":  {made(0, []float64{0.1, 0.2}, []float64{.8, .8}, []float64{.9, .9}), []string{"No answer"}},
	} {
		for _, want := range c.want {
			assert.Contains(t, c.report.Answer(), want, name)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	require.NoError(t, made(.125, []float64{0, 0.1}, []float64{.5, .6}, []float64{.6, .7}, []float64{.9, .9}, []float64{.8, .8}).Table(&b))
	assert.Contains(t, b.String(), "12.5 %         0           55.00 ± 7.07   0.0000 ± 0.0000   0.0000 ± 0.0000\n")
	assert.Contains(t, b.String(), "0 %            0.1         80.00 ± 0.00   0.0000 ± 0.0000   0.0000 ± 0.0000\n")
}

func TestPlot(t *testing.T) {
	c := tiny()
	c.Epsilons, c.Seeds, c.Epochs = []float64{0.2, 0, 0.1, 0.3, 0.4}, 1, 1
	r, err := Run(t.Context(), load(t), c, nil)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, r.Plot(&b))
	_, err = png.Decode(&b)
	assert.NoError(t, err)
}

func TestCancel(t *testing.T) {
	c := Defaults()
	c.Epochs = 1 << 16
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Run(ctx, load(t), c, nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 2*time.Second)
}

func TestDiverges(t *testing.T) {
	c := tiny()
	c.LearningRate = 1e20
	_, err := Run(t.Context(), load(t), c, nil)
	assert.ErrorContains(t, err, "try a lower learning rate")
}

func TestConfigErrors(t *testing.T) {
	data := load(t)
	for want, change := range map[string]func(*Config){
		"at least one smoothing":                       func(c *Config) { c.Epsilons = nil },
		"smoothing must be in [0, 1], got NaN":         func(c *Config) { c.Epsilons = []float64{math.NaN()} },
		"got 0.1 twice":                                func(c *Config) { c.Epsilons = []float64{.1, 0, .1} },
		"noise must be in [0, 1), got 1":               func(c *Config) { c.Noise = 1 },
		"seeds must be in [1, 65536], got 0":           func(c *Config) { c.Seeds = 0 },
		"epochs must be in [1, 65536], got -1":         func(c *Config) { c.Epochs = -1 },
		"hidden units must be in [1, 65536]":           func(c *Config) { c.Hidden = math.MaxInt },
		"batch must be in [1, 65536]":                  func(c *Config) { c.Batch = 0 },
		"training rows must be in [1, 1796]":           func(c *Config) { c.TrainRows = 0 },
		"training rows must be in [1, 1796], got 1797": func(c *Config) { c.TrainRows = 1797 },
		"learning rate must be finite":                 func(c *Config) { c.LearningRate = math.Inf(1) },
		"momentum must be in [0, 1), got 1":            func(c *Config) { c.Momentum = 1 },
	} {
		c := Defaults()
		change(&c)
		_, err := Run(t.Context(), data, c, nil)
		assert.ErrorContains(t, err, want)
	}
	_, err := Run(t.Context(), nil, Defaults(), nil)
	assert.ErrorContains(t, err, "got none")
	_, err = Run(t.Context(), &digits.Dataset{Images: make([]float32, 3), Labels: []uint8{0, 1}, Width: 2, Classes: 2}, Defaults(), nil)
	assert.ErrorContains(t, err, "has 3 pixels")
	_, err = Run(t.Context(), &digits.Dataset{Images: make([]float32, 2), Labels: []uint8{0, 2}, Width: 1, Classes: 2}, Defaults(), nil)
	assert.ErrorContains(t, err, "expected labels below 2, got 2")
}
