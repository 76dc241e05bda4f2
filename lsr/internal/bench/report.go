package bench

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"

	"github.com/golsr/lsr"
)

// Report is what was measured.
type Report struct {
	CPU     string   `json:"cpu"`
	Go      string   `json:"go"`
	Type    string   `json:"type"`
	Workers int      `json:"workers"` // 0: one for each CPU
	Rounds  int      `json:"rounds"`
	Kernels []string `json:"kernels"` // of the lines, the fastest first; perhaps Usual
	Lines   []Line   `json:"lines"`
}

// Line is ns per logit, by kernel, for one number of classes.
type Line struct {
	Classes  int                `json:"classes"`
	Rows     int                `json:"rows"`
	Forward  map[string]float64 `json:"forward"`
	Gradient map[string]float64 `json:"gradient"` // with the loss
}

func newReport(cfg Config) *Report {
	r := &Report{Go: fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH), Type: cfg.Type,
		Workers: cfg.Workers, Rounds: cfg.Rounds, Kernels: lsr.Kernels()}
	if cfg.Type == "float32" && cfg.Workers == 1 {
		r.Kernels = append(r.Kernels, Usual)
	}
	for _, k := range cfg.Classes {
		r.Lines = append(r.Lines, Line{k, max(leastRows, batchLogits/k), map[string]float64{}, map[string]float64{}})
	}
	return r
}

// directions are the parts of a line.
var directions = [...]struct {
	name  string
	times func(*Line) map[string]float64
}{
	{"forward", func(l *Line) map[string]float64 { return l.Forward }},
	{"forward and gradient", func(l *Line) map[string]float64 { return l.Gradient }},
}

// rounds is how many rounds a contender takes part in.
func (r *Report) rounds(slow bool) int {
	if slow {
		return (r.Rounds + slowRounds - 1) / slowRounds
	}
	return r.Rounds
}

// subject says what was measured, and how.
func (r *Report) subject() string {
	workers := "a goroutine for each CPU"
	if r.Workers == 1 {
		workers = "one goroutine"
	} else if r.Workers > 1 {
		workers = fmt.Sprintf("%d goroutines", r.Workers)
	}
	return fmt.Sprintf("%s rows, logits normal(0, 3), ε = %v, %s", r.Type, smoothing, workers)
}

// Table writes a table with a line for each number of classes.
func (r *Report) Table(w io.Writer) error {
	slow := "plain Go"
	if r.Kernels[len(r.Kernels)-1] == Usual {
		slow += " and the usual loop"
	}
	if _, err := fmt.Fprintf(w, "%s, %s\nns per logit, %s; minimum of %d rounds (%s %d)\n\n",
		r.CPU, r.Go, r.subject(), r.rounds(false), slow, r.rounds(true)); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%10s%-*s   %s\nclasses", "", column*len(r.Kernels)-1, directions[0].name, directions[1].name)
	for range directions {
		b.WriteString("  ")
		for _, k := range r.Kernels {
			fmt.Fprintf(&b, "%*s", column, k)
		}
	}
	for i := range r.Lines {
		fmt.Fprintf(&b, "\n%7d", r.Lines[i].Classes)
		for _, d := range directions {
			b.WriteString("  ")
			for _, k := range r.Kernels {
				fmt.Fprintf(&b, "%*s", column, digits(d.times(&r.Lines[i])[k]))
			}
		}
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

const column = 8 // characters

// digits are three of a number, or all before the point.
func digits(x float64) string {
	return fmt.Sprintf("%.*f", max(0, 2-int(math.Floor(math.Log10(x)))), x)
}
