package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/golsr/lsr"
	"github.com/golsr/lsr/internal/aside"
	"github.com/golsr/lsr/lsr/internal/npy"
	"github.com/spf13/cobra"
)

// evalFlags are the flags of lsr eval.
type evalFlags struct {
	bf16           bool
	axis           int
	smoothing      float64
	prior, weights string
	ignore         int64
	reduction      string
	denominator    float64
	zloss          float64
	mask           bool
	empty          string
	workers        int
	kernel         string
	rows           string
	lse            string
	grad           string
	json           bool
}

func evalCommand() *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval LOGITS TARGETS",
		Short: "Score saved logits against targets",
		Long: `Score saved logits against targets, both .npy files.

LOGITS   f2, f4, f8, or bfloat16 bits (u2 with --bf16), of shape (N, K) or (N, K, d1, ...)
TARGETS  any integer type, of shape (N) or (N, d1, ...), or floats shaped like LOGITS (distributions, taken as they are; with
         --bf16 also u2)

Exit status: 0; 1 for bad data; 2 for bad usage.`,
		Example: `  lsr eval logits.npy targets.npy --smoothing 0.1 --ignore-index=-100 --json
  lsr eval logits.npy targets.npy --reduction none --rows losses.npy --grad gradient.npy`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("expected LOGITS and TARGETS, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	g := cmd.Flags()
	g.SortFlags = false
	g.BoolVar(&f.bf16, "bf16", false, "logits are bfloat16 bits saved as u2")
	g.IntVar(&f.axis, "axis", 1, "class axis of the logits; negative counts from the end")
	g.Float64Var(&f.smoothing, "smoothing", 0.01, "share of the target spread over all classes, in [0, 1]")
	g.StringVar(&f.prior, "prior", "", ".npy `file` with the distribution to spread over (default uniform)")
	g.StringVar(&f.weights, "weights", "", ".npy `file` with a weight for each class")
	g.Int64Var(&f.ignore, "ignore-index", 0, "target whose rows do not count (default none)")
	g.StringVar(&f.reduction, "reduction", "mean", "none, sum or mean")
	g.Float64Var(&f.denominator, "denominator", 0, "what the mean divides by (default the weights of the targets, or the number of distributions)")
	g.Float64Var(&f.zloss, "z-loss", 0, "factor of logsumexp², added to the loss")
	g.BoolVar(&f.mask, "mask-neg-inf", false, "classes with a logit of -Inf leave softmax and prior")
	g.StringVar(&f.empty, "empty", "zero", "mean over nothing: zero or nan")
	g.IntVar(&f.workers, "workers", 0, "goroutines (default one for each CPU)")
	g.StringVar(&f.kernel, "kernel", "auto", "auto, or one that lsr info names")
	g.StringVar(&f.rows, "rows", "", "write row losses to this .npy `file`")
	g.StringVar(&f.lse, "lse", "", "write log-sum-exps to this .npy `file`")
	g.StringVar(&f.grad, "grad", "", "write the gradient of the reduced loss to this .npy `file`")
	g.BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

// criterion makes the criterion from flags, but for the vectors. Its errors are of usage.
func (f *evalFlags) criterion(cmd *cobra.Command) (*lsr.Criterion, error) {
	reductions := map[string]lsr.Reduction{"none": lsr.None, "sum": lsr.Sum, "mean": lsr.Mean}
	r, known := reductions[f.reduction]
	if !known {
		return nil, fmt.Errorf("--reduction must be none, sum or mean, got %q", f.reduction)
	}
	options := []lsr.Option{lsr.Smoothing(f.smoothing), lsr.Reduce(r), lsr.ZLoss(f.zloss), lsr.Workers(f.workers),
		lsr.Kernel(f.kernel), lsr.Top1()}
	if cmd.Flags().Changed("ignore-index") {
		options = append(options, lsr.IgnoreIndex(f.ignore))
	}
	if cmd.Flags().Changed("denominator") {
		options = append(options, lsr.Denominator(f.denominator))
	}
	if f.mask {
		options = append(options, lsr.MaskNegInf())
	}
	switch f.empty {
	case "zero":
	case "nan":
		options = append(options, lsr.EmptyNaN())
	default:
		return nil, fmt.Errorf("--empty must be zero or nan, got %q", f.empty)
	}
	return lsr.New(options...)
}

// distinct checks that no output is the same file as another, or as an input.
func (f *evalFlags) distinct(logits, targets string) error {
	files := []struct{ name, path string }{
		{"--rows", f.rows}, {"--lse", f.lse}, {"--grad", f.grad}, // the outputs
		{"LOGITS", logits}, {"TARGETS", targets}, {"--prior", f.prior}, {"--weights", f.weights},
	}
	for i, output := range files[:3] {
		for _, other := range files[i+1:] {
			if sameFile(output.path, other.path) {
				return fmt.Errorf("%s and %s are the same file: %s", output.name, other.name, output.path)
			}
		}
	}
	return nil
}

// sameFile reports whether two paths lead to one file, which may not exist yet. No path leads to none.
func sameFile(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	placeA, errA := aside.Place(a)
	placeB, errB := aside.Place(b)
	if errA != nil || errB != nil { // an error of its own when the file is opened
		return false
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return placeA == placeB || errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// vector reads a .npy file of one number for each class.
func vector(path string, classes int) ([]float64, error) {
	f, err := npy.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !slices.Equal(f.Shape, []int{classes}) {
		return nil, fmt.Errorf("%s: expected shape [%d], a number for each class, got %v", path, classes, f.Shape)
	}
	v := make([]float64, classes)
	return v, f.Float64s(v, 0)
}

// evaluation is one run of lsr eval.
type evaluation struct {
	evalFlags
	ctx             context.Context
	cmd             *cobra.Command
	crit            *lsr.Criterion
	weightOf        []float64
	logits, targets *npy.File
	index           bool  // index targets
	outer, k, inner int   // the logits' shape
	shape           []int // of index targets
	ignored         int
	weight          float64 // Σ w_y over rows not ignored
}

// report is what --json prints.
type report struct {
	Loss     *number `json:"loss"`
	NLL      *number `json:"nll"`
	Accuracy number  `json:"accuracy"`
	Rows     int     `json:"rows"`
	Ignored  int     `json:"ignored"`
	Kernel   string  `json:"kernel"`
	Seconds  float64 `json:"seconds"`
}

// number is a float64 that JSON can hold: NaN and infinities are strings.
type number float64

func (n number) String() string { return strconv.FormatFloat(float64(n), 'g', -1, 64) }

func (n number) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return json.Marshal(n.String())
	}
	return json.Marshal(float64(n))
}

func (f *evalFlags) run(cmd *cobra.Command, logits, targets string) (err error) {
	e := &evaluation{evalFlags: *f, ctx: cmd.Context(), cmd: cmd}
	if e.crit, err = f.criterion(cmd); err != nil {
		return err
	}
	if err := f.distinct(logits, targets); err != nil {
		return err
	}
	start := time.Now()
	if e.logits, err = npy.Open(logits); err != nil {
		return data(err)
	}
	defer e.logits.Close()
	if e.targets, err = npy.Open(targets); err != nil {
		return data(err)
	}
	defer e.targets.Close()
	r, err := e.score()
	if err != nil {
		return data(err)
	}
	r.Seconds = time.Since(start).Seconds()
	return data(e.print(r))
}

func (e *evaluation) print(r *report) error {
	out := e.cmd.OutOrStdout()
	if e.json {
		return json.NewEncoder(out).Encode(r)
	}
	for _, line := range []struct {
		name  string
		value *number
	}{{"loss", r.Loss}, {"nll", r.NLL}, {"accuracy", &r.Accuracy}} {
		if line.value != nil {
			fmt.Fprintf(out, "%-9s %v\n", line.name, *line.value)
		}
	}
	_, err := fmt.Fprintf(out, "%-9s %d\n%-9s %d\n%-9s %s\n%-9s %.3g\n", "rows", r.Rows, "ignored", r.Ignored,
		"kernel", r.Kernel, "seconds", r.Seconds)
	return err
}
