package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/golsr/lsr"
)

// report is the outcome of a run, as the JSON file has it.
type report struct {
	CPU     string   `json:"cpu"`
	Go      string   `json:"go"`
	PyTorch string   `json:"pytorch"`
	Vek     string   `json:"vek"`
	Kernels []string `json:"kernels"` // lsr's on this machine
	Rounds  int      `json:"rounds"`
	Times   []timing `json:"times"`
	Ratios  []ratio  `json:"ratios"`
}

// timing is a contender's fastest round.
type timing struct {
	Case      string  `json:"case"`
	Direction string  `json:"direction"`
	Threads   int     `json:"threads"`
	Contender string  `json:"contender"`
	NS        float64 `json:"ns_per_logit"`
	Faults    float64 `json:"page_faults_per_call"` // of PyTorch
}

// ratio is how many times faster one contender is than another.
type ratio struct {
	timing
	Against timing  `json:"against"`
	Ratio   float64 `json:"ratio"`
	Floor   float64 `json:"floor,omitempty"` // the least that is asked for
}

func newReport(cpu, pytorch string, rounds int) *report {
	r := &report{Go: runtime.Version(), PyTorch: pytorch, Kernels: lsr.Kernels(), Rounds: rounds}
	// The name alone may be no more than "AMD EPYC".
	lines := regexp.MustCompile(`(?m)^(?:cpu family|model|model name)\s*: (.*)$`).FindAllStringSubmatch(cpu, 3)
	if len(lines) == 3 {
		r.CPU = fmt.Sprintf("%s (family %s, model %s)", lines[2][1], lines[0][1], lines[1][1])
	}
	if version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "python3-torch").Output(); err == nil {
		r.PyTorch += " (Debian's python3-torch " + string(version) + ")"
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "github.com/viterin/vek" {
				r.Vek = module.Version
			}
		}
	}
	return r
}

// add takes the times of a case in one sweep, the faster one of contenders of the same name.
func (r *report) add(c *benchCase, contenders []*contender) {
	for _, b := range contenders {
		t := timing{c.name(), b.direction, b.threads, b.name, float64(b.best) / float64(c.size()), b.faults}
		if old := r.fastest(t, b.name); old == nil {
			r.Times = append(r.Times, t)
		} else if t.NS < old.NS {
			*old = t
		}
	}
}

// compareAll compares lsr's times of a case with others'.
func (r *report) compareAll(c *benchCase) {
	for i, direction := range directions {
		for _, n := range c.threads {
			row := timing{Case: c.name(), Direction: direction, Threads: n}
			for _, kernel := range lsr.Kernels() {
				t := r.fastest(row, "lsr "+kernel)
				pytorch := "PyTorch"
				if kernel == "avx2" && c.sameISA {
					pytorch = "PyTorch avx2"
				}
				r.compare(t, r.fastest(row, pytorch), c.floors[kernel][i])
				if c.cold {
					r.compare(t, r.fastest(timing{Case: row.Case, Direction: "forward", Threads: n}, "read"), 0)
				}
				if n != c.threads[0] {
					r.compare(t, r.fastest(timing{Case: row.Case, Direction: direction, Threads: c.threads[0]}, "lsr "+kernel), 0)
				}
			}
			if best := c.floors["best"][i]; best > 0 {
				r.compare(r.fastest(row, "lsr"), r.fastest(row, "PyTorch"), best)
			}
		}
	}
}

// fastest is the least time in a row of the table among the contenders whose names begin so, or nil.
func (r *report) fastest(row timing, name string) (best *timing) {
	for i := range r.Times {
		t := &r.Times[i]
		if t.Case == row.Case && t.Direction == row.Direction && t.Threads == row.Threads &&
			strings.HasPrefix(t.Contender, name) && (best == nil || t.NS < best.NS) {
			best = t
		}
	}
	return best
}

// compare adds a ratio. Floors are for one thread.
func (r *report) compare(t, against *timing, floor float64) {
	if t.Threads > 1 {
		floor = 0
	}
	r.Ratios = append(r.Ratios, ratio{*t, *against, against.NS / t.NS, floor})
}

// markdown writes the times, a column for each contender, and the ratios.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, PyTorch %s, vek %s, lsr's kernels: %s; fastest of %d interleaved rounds.\n\n",
		r.CPU, r.Go, r.PyTorch, r.Vek, strings.Join(r.Kernels, ", "), r.Rounds)
	var columns []string
	var rows []timing
	faults := 0.0
	for _, t := range r.Times {
		if !slices.Contains(columns, t.Contender) {
			columns = append(columns, t.Contender)
		}
		if row := (timing{Case: t.Case, Direction: t.Direction, Threads: t.Threads}); !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
		faults = max(faults, t.Faults)
	}
	fmt.Fprintf(w, "ns per logit:\n\n| classes x rows | direction | threads | %s |\n|---|---|---|%s\n",
		strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s | %s | %d |", row.Case, row.Direction, row.Threads)
		for _, column := range columns {
			if t := r.fastest(row, column); t != nil {
				fmt.Fprintf(w, " %.3g |", t.NS)
			} else {
				fmt.Fprint(w, " – |")
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "\nHow many times faster, and the least that is asked for:\n\n",
		"| classes x rows | direction | contender | threads | against | threads | ratio | floor | met |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, x := range r.Ratios {
		floor, met := "", ""
		if x.Floor > 0 {
			floor, met = fmt.Sprint(x.Floor), map[bool]string{true: "yes", false: "NO"}[x.Ratio >= x.Floor]
		}
		fmt.Fprintf(w, "| %s | %s | %s | %d | %s | %d | %.3g | %s | %s |\n", x.Case, x.Direction, x.Contender, x.Threads,
			x.Against.Contender, x.Against.Threads, x.Ratio, floor, met)
	}
	fmt.Fprintf(w, "\nPage faults of a call of PyTorch: at most %.2g.\n", faults)
}

func (r *report) writeJSON(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
