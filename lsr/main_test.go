package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/golsr/lsr"
	"github.com/golsr/lsr/lsr/internal/bench"
	"github.com/golsr/lsr/lsr/internal/npy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lsrRun runs the command.
func lsrRun(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(context.Background(), args, &out, &err)
	return status, out.String(), err.String()
}

// save writes a .npy file of numbers of a type.
func save(t testing.TB, dir, name, descr string, shape []int, v []float64) string {
	path := filepath.Join(dir, name)
	var b bytes.Buffer
	dims := ""
	for _, d := range shape {
		dims += fmt.Sprintf("%d,", d)
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, dims)
	fmt.Fprintf(&b, "\x93NUMPY\x01\x00%c%c%s", byte(len(header)), byte(len(header)>>8), header)
	for _, v := range v {
		switch bits := math.Float64bits(v); descr {
		case "<f8":
			for i := range 8 {
				b.WriteByte(byte(bits >> (8 * i)))
			}
		case "<f4":
			for i := range 4 {
				b.WriteByte(byte(math.Float32bits(float32(v)) >> (8 * i)))
			}
		case "<f2":
			h := lsr.ToFloat16(float32(v))
			b.Write([]byte{byte(h), byte(h >> 8)})
		case "<u2": // bfloat16
			h := lsr.ToBFloat16(float32(v))
			b.Write([]byte{byte(h), byte(h >> 8)})
		case "|i1":
			b.WriteByte(byte(int8(v)))
		case ">i8":
			for i := range 8 {
				b.WriteByte(byte(int64(v) >> (56 - 8*i)))
			}
		}
	}
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	return path
}

// load reads all of a .npy file.
func load(t *testing.T, path string) (v []float64, f *npy.File) {
	f, err := npy.Open(path)
	require.NoError(t, err)
	defer f.Close()
	v = make([]float64, f.Len())
	if f.Type() == "u2" {
		bits := make([]uint16, f.Len())
		require.NoError(t, f.Uint16s(bits, 0))
		for i, b := range bits {
			v[i] = float64(lsr.BFloat16(b).Float32())
		}
		return v, f
	}
	require.NoError(t, f.Float64s(v, 0))
	return v, f
}

// result is what eval --json prints.
type result struct {
	Loss, NLL, Accuracy any
	Rows, Ignored       int
	Kernel              string
	Seconds             *float64
}

func eval(t *testing.T, args ...string) (r result) {
	status, stdout, stderr := lsrRun(append([]string{"eval", "--json"}, args...)...)
	require.Equal(t, 0, status, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &r), stdout)
	require.NotNil(t, r.Seconds)
	assert.Contains(t, lsr.Kernels(), r.Kernel)
	return r
}

// snapshot is all files of a folder.
func snapshot(t *testing.T, dir string) map[string]string {
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		files[e.Name()] = string(b)
	}
	return files
}

var logits = []float64{2, 1, 0, 0, 3, 0, 1, 1, 1, -1, 0, 2} // [4, 3], or [2, 3, 2]

// Every element type and target type gives what package lsr gives.
func TestEvalTypes(t *testing.T) {
	dir := t.TempDir()
	gradient := make([]float64, 12)
	criterion, err := lsr.New(lsr.Smoothing(0.1), lsr.IgnoreIndex(-1), lsr.ZLoss(0.01))
	require.NoError(t, err)
	losses, lses := make([]float64, 4), make([]float64, 4)
	want, err := lsr.Grad(criterion, lsr.Rows(gradient, 3), lsr.Rows(logits, 3), []int{0, -1, 2, 2}, lsr.PerRow{Loss: losses, LSE: lses})
	require.NoError(t, err)
	for _, descr := range []string{"<f2", "<f4", "<f8", "<u2"} {
		x := save(t, dir, "x.npy", descr, []int{4, 3}, logits)
		for _, labels := range []string{"|i1", ">i8"} {
			y := save(t, dir, "y.npy", labels, []int{4}, []float64{0, -1, 2, 2})
			out := func(name string) string { return filepath.Join(dir, name) }
			r := eval(t, x, y, "--smoothing=0.1", "--ignore-index", "-1", "--z-loss", "0.01", fmt.Sprintf("--bf16=%v", descr == "<u2"),
				"--rows", out("rows.npy"), "--lse", out("lse.npy"), "--grad", out("grad.npy"))
			assert.InDelta(t, want.Loss, r.Loss, 1e-6)
			assert.InDelta(t, want.NLL, r.NLL, 1e-6)
			assert.InDelta(t, 2./3, r.Accuracy, 1e-12)
			assert.Equal(t, []int{4, 1}, []int{r.Rows, r.Ignored})
			rows, f := load(t, out("rows.npy"))
			assert.InDeltaSlice(t, losses, rows, 1e-6)
			assert.Equal(t, []int{4}, f.Shape)
			assert.Equal(t, map[bool]string{true: "f8", false: "f4"}[descr == "<f8"], f.Type())
			lse, _ := load(t, out("lse.npy"))
			assert.InDeltaSlice(t, lses, lse, 1e-6)
			grad, f := load(t, out("grad.npy"))
			assert.InDeltaSlice(t, gradient, grad, map[string]float64{"<f2": 1e-3, "<u2": 1e-2, "<f4": 1e-7, "<f8": 1e-15}[descr])
			assert.Equal(t, []int{4, 3}, f.Shape)
			assert.Equal(t, descr[1:], f.Type())
		}
	}
}

// The class axis may be any, and distributions may be of any float type.
func TestEvalAxisAndDistributions(t *testing.T) {
	dir := t.TempDir()
	planes := []float64{2, 0, 1, 3, 0, 0, 1, -1, 1, 0, 1, 2} // [2, 3, 2], the same four rows
	y := save(t, dir, "y.npy", "|i1", []int{2, 2}, []float64{0, 1, 2, 2})
	rows := eval(t, save(t, dir, "x.npy", "<f4", []int{2, 2, 3}, logits), y, "--axis=-1", "--grad", filepath.Join(dir, "a.npy"))
	second := eval(t, save(t, dir, "x.npy", "<f4", []int{2, 3, 2}, planes), y, "--grad", filepath.Join(dir, "b.npy"))
	assert.Equal(t, rows.Loss, second.Loss)
	a, _ := load(t, filepath.Join(dir, "a.npy"))
	b, _ := load(t, filepath.Join(dir, "b.npy"))
	for i := range 4 {
		for k := range 3 {
			assert.Equal(t, a[i*3+k], b[i/2*6+k*2+i%2])
		}
	}
	onehot := []float64{1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1}
	for _, x := range []string{"<f2", "<f4", "<f8", "<u2"} {
		for _, d := range []string{"<f2", "<f4", "<f8", "<u2"} {
			if d == "<u2" && x != d {
				continue // bfloat16 goes with --bf16
			}
			r := eval(t, save(t, dir, "x.npy", x, []int{4, 3}, logits), save(t, dir, "t.npy", d, []int{4, 3}, onehot),
				fmt.Sprintf("--bf16=%v", x == "<u2"), "--grad", filepath.Join(dir, "c.npy"))
			assert.InDelta(t, rows.Loss, r.Loss, 1e-6)
			assert.Nil(t, r.NLL)
			assert.Equal(t, rows.Accuracy, r.Accuracy)
			c, f := load(t, filepath.Join(dir, "c.npy"))
			assert.InDeltaSlice(t, a, c, 1e-2)
			assert.Equal(t, x[1:], f.Type())
		}
	}
}

// What is read in blocks has the bits of one call: whole planes of logits, rows, and positions of planes too large.
func TestEvalBlocks(t *testing.T) {
	shapes := [][]int{{1 << 16, 7, 3}, {1 << 17, 11}, {2, 5, blockLogits/5 + 1}, {5, blockLogits/2 + 1}, {1, blockLogits + 1, 2}}
	if testing.Short() {
		shapes = shapes[:2]
	}
	for _, shape := range shapes {
		dir := t.TempDir()
		n, k, inner := shape[0], shape[1], 1
		if len(shape) == 3 {
			inner = shape[2]
		}
		x, y, w := make([]float64, n*k*inner), make([]float64, n*inner), make([]float64, k)
		for i := range x {
			x[i] = float64(i*7919%13) - 6
		}
		for i := range w {
			w[i] = float64(i%3) + 0.5
		}
		labels := make([]int, n*inner)
		for i := range labels {
			labels[i] = i % min(k, 100)
			y[i] = float64(labels[i])
		}
		criterion, err := lsr.New(lsr.Weights(w))
		require.NoError(t, err)
		gradient, losses := make([]float64, len(x)), make([]float64, n*inner)
		want, err := lsr.Grad(criterion, lsr.Planes(gradient, k, inner), lsr.Planes(x, k, inner), labels, lsr.PerRow{Loss: losses})
		require.NoError(t, err)
		r := eval(t, save(t, dir, "x.npy", "<f8", shape, x), save(t, dir, "y.npy", "|i1", append([]int{n}, shape[2:]...), y),
			"--weights", save(t, dir, "w.npy", "<f8", []int{k}, w), "--rows", filepath.Join(dir, "r.npy"), "--grad", filepath.Join(dir, "g.npy"))
		assert.InEpsilon(t, want.Loss, r.Loss, 1e-13)
		rows, _ := load(t, filepath.Join(dir, "r.npy"))
		assert.True(t, slices.Equal(losses, rows), "rows of %v", shape)
		grad, _ := load(t, filepath.Join(dir, "g.npy"))
		assert.True(t, slices.Equal(gradient, grad), "gradient of %v", shape)
	}
}

// A z-loss and weights have different denominators.
func TestEvalBlocksWithZLoss(t *testing.T) {
	dir := t.TempDir()
	const n, k = 3, blockLogits/2 + 1
	x, w := make([]float64, n*k), make([]float64, k)
	for i := range x {
		x[i] = float64(i*7919%13) - 6
	}
	for i := range w {
		w[i] = float64(i%3) + 0.5
	}
	criterion, err := lsr.New(lsr.Weights(w), lsr.ZLoss(0.1))
	require.NoError(t, err)
	gradient, losses := make([]float64, n*k), make([]float64, n)
	want, err := lsr.Grad(criterion, lsr.Rows(gradient, k), lsr.Rows(x, k), []int{0, 1, 2}, lsr.PerRow{Loss: losses})
	require.NoError(t, err)
	r := eval(t, save(t, dir, "x.npy", "<f8", []int{n, k}, x), save(t, dir, "y.npy", "|i1", []int{n}, []float64{0, 1, 2}), "--z-loss", "0.1",
		"--weights", save(t, dir, "w.npy", "<f8", []int{k}, w), "--rows", filepath.Join(dir, "r.npy"), "--grad", filepath.Join(dir, "g.npy"))
	assert.InEpsilon(t, want.Loss, r.Loss, 1e-14)
	rows, _ := load(t, filepath.Join(dir, "r.npy"))
	assert.Equal(t, losses, rows)
	grad, _ := load(t, filepath.Join(dir, "g.npy"))
	worst := 0.0
	for i := range grad {
		worst = max(worst, math.Abs(grad[i]-gradient[i]))
	}
	assert.Less(t, worst, 1e-15)
}

func TestEvalSpecialNumbers(t *testing.T) {
	dir := t.TempDir()
	y := save(t, dir, "y.npy", "|i1", []int{1}, []float64{0})
	assert.Equal(t, "NaN", eval(t, save(t, dir, "x.npy", "<f4", []int{1, 2}, []float64{1, math.NaN()}), y).Loss)
	assert.Equal(t, "+Inf", eval(t, save(t, dir, "x.npy", "<f4", []int{1, 2}, []float64{1, math.Inf(-1)}), y).Loss)
	assert.Nil(t, eval(t, save(t, dir, "x.npy", "<f4", []int{1, 2}, []float64{1, 2}), y, "--reduction=none").Loss)
	empty := []string{save(t, dir, "x0.npy", "<f4", []int{0, 2}, nil), save(t, dir, "y0.npy", "|i1", []int{0}, nil)}
	assert.Equal(t, 0.0, eval(t, empty...).Loss)
	assert.Equal(t, "NaN", eval(t, append(empty, "--empty=nan")...).Loss)
	// Not a byte for a class that has no row.
	wide := []string{save(t, dir, "x0.npy", "<f4", []int{0, math.MaxInt32}, nil), empty[1]}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	assert.Equal(t, 0.0, eval(t, wide...).Loss)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

// Errors: the status, a line that says what is wrong, and nothing written.
func TestEvalErrors(t *testing.T) {
	dir := t.TempDir()
	x := save(t, dir, "x.npy", "<f4", []int{4, 3}, logits)
	y := save(t, dir, "y.npy", "|i1", []int{4}, []float64{0, 1, 2, 2})
	bad := save(t, dir, "bad.npy", "|i1", []int{4}, []float64{0, 1, 9, 2})
	short := filepath.Join(dir, "short.npy")
	b, err := os.ReadFile(x)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(short, b[:len(b)-1], 0o644))
	fortran := filepath.Join(dir, "fortran.npy")
	require.NoError(t, os.WriteFile(fortran, bytes.Replace(b, []byte("False"), []byte("True "), 1), 0o644))
	grad := filepath.Join(dir, "grad.npy")
	here, err := os.Getwd()
	require.NoError(t, err)
	relative, err := filepath.Rel(here, grad)
	require.NoError(t, err)
	link := filepath.Join(dir, "link.npy")
	require.NoError(t, os.Symlink(grad, link))
	cases := []struct {
		status int
		want   string
		args   []string
	}{
		{badUsage, "smoothing must be in [0, 1], got 2", []string{x, y, "--smoothing", "2"}},
		{badUsage, "unknown flag", []string{x, y, "--smoothign", "2"}},
		{badUsage, "kernel", []string{x, y, "--kernel", "vax"}},
		{badUsage, "reduction", []string{x, y, "--reduction", "max"}},
		{badUsage, "denominator", []string{x, y, "--reduction", "sum", "--denominator", "3"}},
		{badUsage, "denominator", []string{x, y, "--denominator", "0"}},
		{badUsage, "workers", []string{x, y, "--workers", "-1"}},
		{badUsage, "empty", []string{x, y, "--empty", "one"}},
		{badUsage, "same file", []string{x, y, "--rows", grad}},
		{badUsage, "same file", []string{x, y, "--rows", relative}},
		{badUsage, "same file", []string{x, y, "--rows", link}},
		{badUsage, "same file", []string{x, y, "--rows", y}},
		{badUsage, "same file", []string{link, y}},
		{badUsage, "same file", []string{x, y, "--prior", grad}},
		{badUsage, "expected LOGITS and TARGETS, got 1", []string{x}},
		{badData, "--ignore-index goes with index targets", []string{x, x, "--ignore-index=-1"}},
		{badData, "no such file", []string{x, filepath.Join(dir, "none.npy")}},
		{badData, "target of row 2 is 9", []string{x, bad}},
		{badData, "needs 48 bytes", []string{short, y}},
		{badData, "Fortran", []string{fortran, y}},
		{badData, "expected index targets of shape [3]", []string{x, y, "--axis", "0"}},
		{badData, "expected distributions of shape [4 3]", []string{x, save(t, dir, "yf.npy", "<f4", []int{4}, []float64{0, 1, math.NaN(), 2})}},
		{badData, "axis", []string{x, y, "--axis", "2"}},
		{badData, "two dimensions", []string{save(t, dir, "flat.npy", "<f4", []int{3}, []float64{1, 2, 3}), y}},
		{badData, "expected logits of f2", []string{y, y}},
		{badData, "bfloat16", []string{x, y, "--bf16"}},
		{badData, "expected shape [3]", []string{x, y, "--prior", save(t, dir, "u.npy", "<f4", []int{2}, []float64{.5, .5})}},
		{badData, "expected shape [3]", []string{x, y, "--prior", save(t, dir, "u0.npy", "<f4", []int{0}, nil)}},
		{badData, "expected shape [3]", []string{x, y, "--weights", save(t, dir, "w0.npy", "<f4", []int{0}, nil)}},
		{badData, "expected a regular file", []string{x, y, "--rows", filepath.Join(dir, "r.npy"), "--lse", dir}},
		{badData, "none/lse.npy: no such file", []string{x, y, "--rows", filepath.Join(dir, "r.npy"), "--lse", filepath.Join(dir, "none", "lse.npy")}},
		{badData, "sum to 1", []string{x, y, "--prior", save(t, dir, "u3.npy", "<f4", []int{3}, []float64{.5, .5, .5})}},
	}
	require.NoError(t, os.WriteFile(grad, []byte("old"), 0o644))
	before := snapshot(t, dir)
	for _, c := range cases {
		status, stdout, stderr := lsrRun(append([]string{"eval", "--grad", grad}, c.args...)...)
		assert.Equal(t, c.status, status, "%v: %s", c.args, stderr)
		assert.Contains(t, stderr, c.want)
		assert.Equal(t, 1, bytes.Count([]byte(stderr), []byte("\n")), "one line: %s", stderr)
		assert.Empty(t, stdout)
		assert.Equal(t, before, snapshot(t, dir), "nothing is written: %v", c.args)
	}
}

// interrupted is a context that is done when it has been asked a number of times.
type interrupted struct {
	context.Context
	left int
}

func (c *interrupted) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// An interrupt loses nothing, leaves nothing, and is told as one.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	x, y := save(t, dir, "x.npy", "<f4", []int{4, 3}, logits), save(t, dir, "y.npy", "|i1", []int{4}, []float64{0, 1, 2, 2})
	grad := filepath.Join(dir, "grad.npy")
	require.NoError(t, os.WriteFile(grad, []byte("old"), 0o644))
	before := snapshot(t, dir)
	for left := range 2 { // while targets are checked, and when the file is under way
		var out, stderr bytes.Buffer
		status := run(&interrupted{t.Context(), left}, []string{"eval", x, y, "--grad", grad}, &out, &stderr)
		assert.Equal(t, badData, status)
		assert.Equal(t, "lsr: interrupted\n", stderr.String())
		assert.Equal(t, before, snapshot(t, dir))
	}
}

// full is where nothing can be written.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestFull(t *testing.T) {
	dir := t.TempDir()
	x, y := save(t, dir, "x.npy", "<f4", []int{4, 3}, logits), save(t, dir, "y.npy", "|i1", []int{4}, []float64{0, 1, 2, 2})
	for _, args := range [][]string{{"eval", x, y}, {"eval", x, y, "--json"}, {"info"}, {"train", "--epochs=1"}, tinyBench, append(tinyBench, "--json")} {
		var stderr bytes.Buffer
		assert.Equal(t, badData, run(t.Context(), args, full{}, &stderr))
		assert.Equal(t, "lsr: no space left\n", stderr.String())
	}
}

func TestInfoAndHelp(t *testing.T) {
	status, out, _ := lsrRun("info")
	assert.Zero(t, status)
	assert.Contains(t, out, "kernels   ")
	assert.Regexp(t, "(?m)^special   (none|.*float32.*: .*2.*)$", out)
	for _, c := range []string{"train", "eval", "bench", "info"} {
		status, out, _ = lsrRun(c, "--help")
		assert.Zero(t, status)
		assert.Contains(t, out, "Examples:")
	}
	status, _, stderr := lsrRun("fly")
	assert.Equal(t, badUsage, status)
	assert.Contains(t, stderr, "fly")
}

func TestTrain(t *testing.T) {
	dir := t.TempDir()
	plot := filepath.Join(dir, "p.png")
	status, out, stderr := lsrRun("train", "--seeds", "2", "--epochs", "1", "--smoothing", "0,0.1", "--plot", plot)
	assert.Zero(t, status, stderr)
	assert.Contains(t, out, "accuracy")
	before := snapshot(t, dir)
	assert.True(t, strings.HasPrefix(before["p.png"], "\x89PNG"))
	for _, c := range []struct {
		status int
		args   []string
	}{
		{badUsage, []string{"--noise", "2", "--plot", plot}},
		{badUsage, []string{"--hidden", fmt.Sprint(math.MaxInt)}},
		{badData, []string{"--data", dir}},
		{badUsage, []string{"--plot", filepath.Join(dir, "p.jpg")}},
		{badUsage, []string{"--plot", dir}},
		{badData, []string{"--plot", filepath.Join(dir, "none", "p.png")}},
	} {
		status, out, stderr = lsrRun(append([]string{"train"}, c.args...)...)
		assert.Equal(t, c.status, status, stderr)
		assert.Empty(t, out, "%v: no training before the error", c.args)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
		assert.Equal(t, before, snapshot(t, dir))
	}
}

// tinyBench is a measurement that takes a few milliseconds.
var tinyBench = []string{"bench", "--classes=3,300", "--rounds=1"}

func TestBench(t *testing.T) {
	dir := t.TempDir()
	plot := func(name string) string { return filepath.Join(dir, name) }
	status, out, stderr := lsrRun(append(tinyBench, "--plot", plot("p.png"))...)
	assert.Zero(t, status, stderr)
	assert.Regexp(t, `(?m)^ +300( +[0-9.]+)+$`, out)
	assert.Contains(t, out, model())
	assert.Contains(t, out, "plot: "+plot("p.png"))
	status, out, stderr = lsrRun(append(tinyBench, "--type=float16", "--json", "--plot", plot("p.SVG"))...)
	assert.Zero(t, status, stderr)
	var r bench.Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	assert.Equal(t, lsr.Kernels(), r.Kernels)
	require.Len(t, r.Lines, 2)
	assert.Positive(t, r.Lines[1].Gradient["go"])
	before := snapshot(t, dir)
	assert.True(t, strings.HasPrefix(before["p.png"], "\x89PNG"))
	assert.Contains(t, before["p.SVG"], "</svg>")
	for _, c := range []struct {
		status int
		args   []string
	}{
		{badUsage, []string{"--rounds=0", "--plot", plot("p.png")}},
		{badUsage, []string{"--classes=0"}},
		{badUsage, []string{"--type=int8"}},
		{badUsage, []string{"--workers=-1"}},
		{badUsage, []string{"--plot", plot("p.pdf")}},
		{badData, []string{"--plot", filepath.Join(dir, "none", "p.png")}},
	} {
		status, out, stderr = lsrRun(append(tinyBench, c.args...)...)
		assert.Equal(t, c.status, status, stderr)
		assert.Empty(t, out)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
		assert.Equal(t, before, snapshot(t, dir))
	}
	var stdout, interrupt bytes.Buffer
	assert.Equal(t, badData, run(&interrupted{t.Context(), 3}, append(tinyBench, "--plot", plot("q.png")), &stdout, &interrupt))
	assert.Equal(t, "lsr: interrupted\n", interrupt.String())
	assert.Equal(t, before, snapshot(t, dir))
}
