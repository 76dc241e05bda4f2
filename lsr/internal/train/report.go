package train

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/golsr/lsr/lsr/internal/digits"
)

// BinCount is the number of bins of [ECE].
const BinCount = 15

// Bin is the predictions whose confidence lies in one part of [0, 1]: bin i of n has those in (i/n, (i+1)/n].
type Bin struct {
	Count      int
	Confidence float64 // mean probability of the predicted class; 0 for an empty bin
	Accuracy   float64 // share of right predictions; 0 for an empty bin
}

// ECE is the expected calibration error over [BinCount] bins of equal width, and the bins (C. Guo, G. Pleiss, Y. Sun,
// K. Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equation 3): the mean over the predictions of
// |accuracy − confidence| of their bin. The slices have one entry for each prediction, confidence in [0, 1]; of none the
// error is 0.
func ECE(confidence []float64, correct []bool) (float64, [BinCount]Bin) {
	var bins [BinCount]Bin
	for i, c := range confidence {
		b := &bins[min(max(int(math.Ceil(c*BinCount))-1, 0), BinCount-1)]
		b.Count++
		b.Confidence += c
		if correct[i] {
			b.Accuracy++
		}
	}
	ece := 0.0
	for i := range bins {
		if b := &bins[i]; b.Count > 0 {
			ece += math.Abs(b.Accuracy-b.Confidence) / float64(len(confidence))
			b.Accuracy /= float64(b.Count)
			b.Confidence /= float64(b.Count)
		}
	}
	return ece, bins
}

// Trial is what one trained network does on the test rows.
type Trial struct {
	Seed     uint64
	Accuracy float64       // share of right predictions
	NLL      float64       // mean of −log p of the right class, in nats, without smoothing
	ECE      float64       // expected calibration error
	Bins     [BinCount]Bin // what ECE is made from
}

// Stat is a mean over the seeds, and the standard deviation of one of them: NaN for a single seed.
type Stat struct{ Mean, SD float64 }

// SE is the standard error of the mean of n.
func (s Stat) SE(n int) float64 { return s.SD / math.Sqrt(float64(n)) }

func stat(values []float64) Stat {
	n := float64(len(values))
	var sum, squares float64
	for _, v := range values {
		sum += v
	}
	mean := sum / n
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return Stat{mean, math.Sqrt(squares / (n - 1))} // 0/0 is NaN
}

// Group is the trials that differ in the seed only.
type Group struct {
	Noise              float64 // share of wrong training labels
	Epsilon            float64 // smoothing
	Trials             []Trial // by seed
	Accuracy, NLL, ECE Stat
	Bins               [BinCount]Bin // of all trials together
}

// Report is what an experiment has found.
type Report struct {
	Config                              Config
	TrainRows, TestRows, Width, Classes int
	Groups                              []Group // with the wrong labels, then with the right ones (once, if Noise is 0); each by Epsilons
}

func newReport(data *digits.Dataset, cfg Config) *Report {
	test := data.Rows() - cfg.TrainRows
	if data.Train > 0 {
		test = data.Rows() - data.Train
	}
	r := &Report{Config: cfg, TrainRows: cfg.TrainRows, TestRows: test, Width: data.Width, Classes: data.Classes}
	for _, noise := range r.noises() {
		for _, epsilon := range cfg.Epsilons {
			g := Group{Noise: noise, Epsilon: epsilon, Trials: make([]Trial, cfg.Seeds)}
			for i := range g.Trials {
				g.Trials[i].Seed = cfg.Seed + uint64(i)
			}
			r.Groups = append(r.Groups, g)
		}
	}
	return r
}

// noises is the shares of wrong labels that there are groups for.
func (r *Report) noises() []float64 {
	if r.Config.Noise == 0 {
		return []float64{0}
	}
	return []float64{r.Config.Noise, 0}
}

// groups is the groups of one of noises.
func (r *Report) groups(noise float64) []Group {
	n := len(r.Config.Epsilons)
	if noise == r.Config.Noise {
		return r.Groups[:n]
	}
	return r.Groups[n:]
}

func (r *Report) summarize() {
	for i := range r.Groups {
		g := &r.Groups[i]
		for _, m := range measures {
			*m.stat(g) = stat(m.values(g))
		}
		for b := range g.Bins {
			sum := &g.Bins[b]
			for _, t := range g.Trials {
				sum.Count += t.Bins[b].Count
				sum.Confidence += t.Bins[b].Confidence * float64(t.Bins[b].Count)
				sum.Accuracy += t.Bins[b].Accuracy * float64(t.Bins[b].Count)
			}
			if sum.Count > 0 {
				sum.Confidence /= float64(sum.Count)
				sum.Accuracy /= float64(sum.Count)
			}
		}
	}
}

// measured is one of the numbers that trials are compared by.
type measured struct {
	name  string
	value func(*Trial) float64
	stat  func(*Group) *Stat
	more  float64 // 1 where more is better, −1 where less is
	scale float64 // to print it
	unit  string  // of the scaled value
	prec  int     // decimals of the scaled value
}

var measures = [3]measured{
	{"accuracy", func(t *Trial) float64 { return t.Accuracy }, func(g *Group) *Stat { return &g.Accuracy }, 1, 100, " points", 2},
	{"NLL", func(t *Trial) float64 { return t.NLL }, func(g *Group) *Stat { return &g.NLL }, -1, 1, "", 4},
	{"calibration error", func(t *Trial) float64 { return t.ECE }, func(g *Group) *Stat { return &g.ECE }, -1, 1, "", 4},
}

func (m *measured) values(g *Group) []float64 {
	values := make([]float64, len(g.Trials))
	for i := range g.Trials {
		values[i] = m.value(&g.Trials[i])
	}
	return values
}

// difference is the mean over the seeds of b less a, and the standard deviation of one difference.
func (m *measured) difference(a, b *Group) Stat {
	from, to := m.values(a), m.values(b)
	for i := range to {
		to[i] -= from[i]
	}
	return stat(to)
}

// Table writes a table of the groups, and what follows from it.
func (r *Report) Table(w io.Writer) error {
	c := r.Config
	if _, err := fmt.Fprintf(w, "%d training rows, %d test rows, %d-%d-%d network, %s, %s; mean ± standard deviation over the seeds\n\n",
		r.TrainRows, r.TestRows, r.Width, c.Hidden, r.Classes, count(c.Epochs, "epoch"), count(c.Seeds, "seed")); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "wrong labels\tsmoothing\taccuracy %\tNLL\tECE")
	for i := range r.Groups {
		g := &r.Groups[i]
		fmt.Fprintf(t, "%s\t%v", percent(g.Noise), g.Epsilon)
		for _, m := range measures {
			s := m.stat(g)
			fmt.Fprintf(t, "\t%.*f", m.prec, s.Mean*m.scale)
			if !math.IsNaN(s.SD) {
				fmt.Fprintf(t, " ± %.*f", m.prec, s.SD*m.scale)
			}
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Answer())
	return err
}

// Answer says in a few sentences whether smoothing helped. For each measure it takes the smoothing that did best against
// 0 in the mean, and calls a difference measurable from two standard errors on.
func (r *Report) Answer() string {
	if r.Config.Seeds < 2 {
		return "One seed does not tell a difference from chance: no answer."
	}
	var lines []string
	for _, noise := range r.noises() {
		var zero *Group
		var others []*Group
		groups := r.groups(noise)
		for i := range groups {
			if g := &groups[i]; g.Epsilon == 0 {
				zero = g
			} else {
				others = append(others, g)
			}
		}
		if zero == nil || len(others) == 0 {
			return "No answer: that takes the smoothing 0 and another one."
		}
		var better, worse, same []string
		for _, m := range measures {
			var best *Group
			var d Stat
			for _, g := range others {
				if e := m.difference(zero, g); best == nil || m.more*e.Mean > m.more*d.Mean {
					best, d = g, e
				}
			}
			se := d.SE(r.Config.Seeds)
			text := fmt.Sprintf("%s (%+.*f ± %.*f%s at %v)", m.name, m.prec, d.Mean*m.scale, m.prec, se*m.scale, m.unit, best.Epsilon)
			switch {
			case d.Mean == 0 || math.Abs(d.Mean) < 2*se:
				same = append(same, text)
			case m.more*d.Mean > 0:
				better = append(better, text)
			default:
				worse = append(worse, text)
			}
		}
		var parts []string
		if len(better) > 0 {
			parts = append(parts, "smoothing helped "+list(better))
		}
		if len(worse) > 0 {
			parts = append(parts, "smoothing hurt, even where it hurt least, "+list(worse))
		}
		if len(same) > 0 {
			parts = append(parts, "no measurable difference in "+list(same))
		}
		lead := "With " + percent(noise) + " of the training labels wrong, "
		if noise == 0 {
			lead = "With right labels, "
		}
		lines = append(lines, lead+strings.Join(parts, "; ")+".")
	}
	note := fmt.Sprintf("Differences to smoothing 0, paired by seed, ± standard error of %s; measurable is two of these or more.", count(r.Config.Seeds, "seed"))
	if len(r.Config.Epsilons) > 2 {
		note += " Each smoothing named is the best on these same test rows, which flatters it."
	}
	return strings.Join(append(lines, note), "\n")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func percent(share float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", share*100), ".0") + " %"
}

// list joins with commas and an and.
func list(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}
