package train

import (
	"cmp"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"github.com/golsr/lsr/lsr/internal/chart"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

var pale = color.NRGBA{213, 94, 0, 60} // chart.Orange, with light through it

const (
	panel     = 6.4 * vg.Centimeter // side of a reliability diagram
	gap       = 0.35 * vg.Centimeter
	titleRoom = 1.15 * vg.Centimeter
	perLine   = 4 // reliability diagrams side by side
)

// Plot draws a PNG: for each smoothing a reliability diagram of the networks that saw the wrong labels (of those that saw
// the right ones, if there was no noise), and below accuracy, NLL and calibration error over the smoothing.
func (r *Report) Plot(w io.Writer) error {
	canvas, err := r.draw()
	if err != nil {
		return fmt.Errorf("train: plot: %w", err)
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

func (r *Report) draw() (*vgimg.Canvas, error) {
	groups := r.groups(r.Config.Noise)
	columns := max(min(len(groups), perLine), 3)
	lines := (len(groups) + perLine - 1) / perLine
	width := vg.Length(columns)*(panel+gap) + gap
	height := vg.Length(lines+1)*(panel+gap) + gap + 2*titleRoom

	canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(120))
	all := draw.New(canvas)
	style := chart.Heading()
	heading := func(top vg.Length, text string) {
		all.FillText(style, vg.Point{X: 2 * gap, Y: top - gap}, text)
	}
	// place draws a panel of the given width with its upper left corner at x and top.
	place := func(p *plot.Plot, x, top, width vg.Length) {
		p.Draw(draw.Canvas{Canvas: all.Canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: x, Y: top - panel},
			Max: vg.Point{X: x + width, Y: top},
		}})
	}

	heading(all.Max.Y, fmt.Sprintf("Reliability on %d test rows × %s, %s of the training labels wrong",
		r.TestRows, count(r.Config.Seeds, "seed"), percent(r.Config.Noise)))
	top := all.Max.Y - titleRoom
	for i := range groups {
		p, err := reliability(&groups[i])
		if err != nil {
			return nil, err
		}
		place(p, gap+vg.Length(i%perLine)*(panel+gap), top-vg.Length(i/perLine)*(panel+gap), panel)
	}

	top -= vg.Length(lines) * (panel + gap)
	heading(top, "By smoothing: mean, and standard deviation over the seeds")
	top -= titleRoom
	wide := (width-gap)/vg.Length(len(measures)) - gap
	for i := range measures {
		p, err := r.overSmoothing(&measures[i], i == 0)
		if err != nil {
			return nil, err
		}
		place(p, gap+vg.Length(i)*(wide+gap), top, wide)
	}
	return canvas, nil
}

// fifths are ticks at 0, 0.2, … 1.
var fifths = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: .2, Label: "0.2"}, {Value: .4, Label: "0.4"},
	{Value: .6, Label: "0.6"}, {Value: .8, Label: "0.8"}, {Value: 1, Label: "1"}}

// reliability is the accuracy of each bin as a bar and as a dot over its mean confidence, the dot's area showing how many
// predictions the bin has, and the diagonal, where they would be equal.
func reliability(g *Group) (*plot.Plot, error) {
	p := chart.New(fmt.Sprintf("smoothing %v: ECE %.3f", g.Epsilon, g.ECE.Mean), "confidence", "accuracy")
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	p.X.Tick.Marker, p.Y.Tick.Marker = fifths, fifths
	p.Add(chart.Grid())

	total := 0
	for _, b := range g.Bins {
		total += b.Count
	}
	var dots plotter.XYs
	var share []float64
	for i, b := range g.Bins {
		if b.Count == 0 {
			continue
		}
		left, right := float64(i)/BinCount, float64(i+1)/BinCount
		bar, err := plotter.NewPolygon(plotter.XYs{{X: left}, {X: left, Y: b.Accuracy}, {X: right, Y: b.Accuracy}, {X: right}})
		if err != nil {
			return nil, err
		}
		bar.Color = pale
		bar.LineStyle.Color, bar.LineStyle.Width = color.White, vg.Points(0.8)
		p.Add(bar)
		dots = append(dots, plotter.XY{X: b.Confidence, Y: b.Accuracy})
		share = append(share, float64(b.Count)/float64(total))
	}
	diagonal, err := plotter.NewLine(plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}})
	if err != nil {
		return nil, err
	}
	diagonal.Color, diagonal.Dashes = chart.Grey, []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(diagonal)
	scatter, err := plotter.NewScatter(dots)
	if err != nil {
		return nil, err
	}
	scatter.GlyphStyleFunc = func(i int) draw.GlyphStyle {
		return draw.GlyphStyle{Color: chart.Orange, Shape: draw.CircleGlyph{}, Radius: vg.Points(1.2 + 9*math.Sqrt(share[i]))}
	}
	p.Add(scatter)
	return p, nil
}

// points are means with error bars.
type points struct {
	plotter.XYs
	plotter.YErrors
}

// overSmoothing is a measure over the smoothings, a line for each share of wrong labels.
func (r *Report) overSmoothing(m *measured, legend bool) (*plot.Plot, error) {
	title := m.name
	if m.scale == 100 {
		title += " in %"
	}
	p := chart.New(title, "smoothing", "")
	p.Add(chart.Grid())
	var ticks plot.ConstantTicks
	low, high := math.Inf(1), math.Inf(-1)
	for _, noise := range r.noises() {
		groups := slices.SortedFunc(slices.Values(r.groups(noise)), func(a, b Group) int { return cmp.Compare(a.Epsilon, b.Epsilon) })
		data := points{make(plotter.XYs, len(groups)), make(plotter.YErrors, len(groups))}
		ticks = nil
		for j := range groups {
			s := *m.stat(&groups[j])
			sd := s.SD * m.scale
			if math.IsNaN(sd) {
				sd = 0
			}
			data.XYs[j] = plotter.XY{X: groups[j].Epsilon, Y: s.Mean * m.scale}
			data.YErrors[j].Low, data.YErrors[j].High = -sd, sd
			low, high = min(low, s.Mean*m.scale-sd), max(high, s.Mean*m.scale+sd)
			ticks = append(ticks, plot.Tick{Value: groups[j].Epsilon, Label: fmt.Sprint(groups[j].Epsilon)})
		}
		line, dots, err := plotter.NewLinePoints(data.XYs)
		if err != nil {
			return nil, err
		}
		bars, err := plotter.NewYErrorBars(data)
		if err != nil {
			return nil, err
		}
		hue, shape := chart.Orange, draw.GlyphDrawer(draw.CircleGlyph{})
		if noise == 0 {
			hue, shape = chart.Blue, draw.BoxGlyph{}
		}
		line.Color, line.Width = hue, vg.Points(1.5)
		dots.Color, dots.Shape, dots.Radius = hue, shape, vg.Points(3)
		bars.Color, bars.Width, bars.CapWidth = hue, vg.Points(1), vg.Points(6)
		p.Add(line, bars, dots)
		if legend {
			label := percent(noise) + " wrong labels"
			if noise == 0 {
				label = "right labels"
			}
			p.Legend.Add(label, line, dots)
		}
	}
	room := max((high-low)*0.08, 1e-3*m.scale)
	p.Y.Min, p.Y.Max = low-room, high+room
	if legend {
		p.Y.Min -= 3 * room // where the legend is
	}
	p.X.Tick.Marker = ticks
	first, last := p.X.Min, p.X.Max
	side := max((last-first)*0.06, 0.005)
	p.X.Min, p.X.Max = first-side, last+side
	p.Legend.Top, p.Legend.Left = false, false
	p.Legend.XOffs, p.Legend.YOffs = -4, 2
	return p, nil
}
