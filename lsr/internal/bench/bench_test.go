package bench

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"strings"
	"testing"

	"github.com/golsr/lsr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every type is measured with every kernel, and progress counts up to the end.
func TestRun(t *testing.T) {
	for _, element := range []string{"float32", "float64", "float16", "bfloat16"} {
		for workers := range 3 {
			if element != "float32" && workers != 1 {
				continue
			}
			kernels := lsr.Kernels()
			if element == "float32" && workers == 1 {
				kernels = append(kernels, Usual)
			}
			turns := 0
			for _, k := range kernels {
				turns += 2 * 2 * map[bool]int{true: 1, false: 2}[k == "go" || k == Usual]
			}
			last := 0
			r, err := Run(t.Context(), Config{Classes: []int{300, 7, 300}, Type: element, Rounds: 2, Workers: workers}, func(done, total int) {
				assert.Equal(t, last+1, done)
				last = done
				assert.Equal(t, turns, total)
			})
			require.NoError(t, err)
			assert.Equal(t, turns, last)
			assert.Equal(t, kernels, r.Kernels)
			require.Len(t, r.Lines, 2)
			assert.Equal(t, []int{7, 37449, 300, 873}, []int{r.Lines[0].Classes, r.Lines[0].Rows, r.Lines[1].Classes, r.Lines[1].Rows})
			for _, l := range r.Lines {
				for _, times := range []map[string]float64{l.Forward, l.Gradient} {
					assert.Len(t, times, len(kernels))
					for _, k := range kernels {
						assert.Greater(t, times[k], 0.0)
						assert.Less(t, times[k], 1e5)
					}
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Config)
	}{
		{"at least one", func(c *Config) { c.Classes = nil }},
		{"classes must be in [1, 4194304], got 0", func(c *Config) { c.Classes = []int{2, 0} }},
		{"classes must be in [1, 4194304], got 4194305", func(c *Config) { c.Classes = []int{mostClasses + 1} }},
		{"rounds", func(c *Config) { c.Rounds = 0 }},
		{"workers", func(c *Config) { c.Workers = -1 }},
		{`got "int8"`, func(c *Config) { c.Type = "int8" }},
	} {
		cfg := Defaults()
		c.change(&cfg)
		_, err := Run(t.Context(), cfg, nil)
		assert.ErrorContains(t, err, c.want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Defaults(), func(int, int) { cancel() })
	assert.ErrorIs(t, err, context.Canceled)
}

// The usual loop is a fair opponent only if it computes the same.
func TestUsual(t *testing.T) {
	const classes = 37
	logits, targets := make([]float32, 8*classes), make([]int32, 8)
	for i := range logits {
		logits[i] = float32(i*7919%13) - 6
	}
	for i := range targets {
		targets[i] = int32(i * 5)
	}
	want, got := make([]float32, len(logits)), make([]float32, len(logits))
	criterion, err := lsr.New(lsr.Smoothing(smoothing))
	require.NoError(t, err)
	r, err := lsr.Grad(criterion, lsr.Rows(want, classes), lsr.Rows(logits, classes), targets)
	require.NoError(t, err)
	assert.InDelta(t, r.Loss, usual(nil, logits, classes, targets), 1e-6)
	assert.InDelta(t, r.Loss, usual(got, logits, classes, targets), 1e-6)
	assert.InDeltaSlice(t, want, got, 1e-7)
}

// numbers is a report without a measurement.
func numbers(classes ...int) *Report {
	r := newReport(Config{Classes: classes, Type: "float32", Rounds: 15, Workers: 1})
	r.CPU, r.Go, r.Kernels = "CPU & co", "go1 linux/amd64", []string{"avx512", "avx2", "go", Usual}
	for i := range r.Lines {
		for j, k := range r.Kernels {
			r.Lines[i].Forward[k], r.Lines[i].Gradient[k] = .0951*float64(uint(1)<<(3*j)), 1.234*float64(uint(1)<<(3*j))
		}
	}
	return r
}

func TestTable(t *testing.T) {
	var b strings.Builder
	require.NoError(t, numbers(2, 128256).Table(&b))
	assert.Equal(t, `CPU & co, go1 linux/amd64
ns per logit, float32 rows, logits normal(0, 3), ε = 0.1, one goroutine; minimum of 15 rounds (plain Go and the usual loop 5)

          forward                           forward and gradient
classes    avx512    avx2      go   usual    avx512    avx2      go   usual
      2    0.0951   0.761    6.09    48.7      1.23    9.87    79.0     632
 128256    0.0951   0.761    6.09    48.7      1.23    9.87    79.0     632
`, b.String())
}

func TestPlot(t *testing.T) {
	for _, classes := range [][]int{{2, 100, 128256}, {1}, {7, 9}} {
		var b bytes.Buffer
		require.NoError(t, numbers(classes...).Plot(&b, ".png"))
		_, err := png.Decode(&b)
		assert.NoError(t, err)
		b.Reset()
		require.NoError(t, numbers(classes...).Plot(&b, ".svg"))
		assert.Contains(t, b.String(), ">usual loop with math.Exp<")
		assert.Contains(t, b.String(), ">CPU &amp; co, go1 linux/amd64<")
		assert.NotContains(t, b.String(), "NaN")
		for d := xml.NewDecoder(&b); err == nil; {
			_, err = d.Token()
		}
		assert.True(t, errors.Is(err, io.EOF), "%v", err)
	}
}

func TestTicks(t *testing.T) {
	labels := func(low, high float64) (texts []string) {
		for _, tick := range (decades{}).Ticks(low, high) {
			assert.True(t, tick.Value >= low && tick.Value <= high)
			if tick.Label != "" {
				texts = append(texts, tick.Label)
			}
		}
		return texts
	}
	assert.Equal(t, []string{"0.1", "0.2", "0.5", "1", "2", "5", "10"}, labels(0.1, 11))
	assert.Equal(t, []string{"10", "100", "1000", "10000", "100000"}, labels(1.5, 166000))
	assert.Equal(t, []string{"6", "7", "8", "9"}, labels(5.4, 9.1))
}
