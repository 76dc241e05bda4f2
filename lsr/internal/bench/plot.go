package bench

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/golsr/lsr/lsr/internal/chart"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	width  = 26 * vg.Centimeter
	height = 13.5 * vg.Centimeter
	gap    = 0.35 * vg.Centimeter
	above  = 2.1 * vg.Centimeter // room for headings and legend
)

// looks are those of the kernels' lines.
var looks = map[string]struct {
	label  string
	color  color.Color
	shape  draw.GlyphDrawer
	dashes []vg.Length
}{
	"avx512": {"AVX-512", chart.Orange, draw.CircleGlyph{}, nil},
	"avx2":   {"AVX2", chart.Blue, draw.BoxGlyph{}, nil},
	"go":     {"plain Go", chart.Green, draw.PyramidGlyph{}, nil},
	Usual:    {"usual loop with math.Exp", chart.Grey, draw.RingGlyph{}, []vg.Length{4, 3}},
}

// Plot draws ns per logit over the number of classes, a line for each kernel, forward and with the gradient. The format is
// .png or .svg.
func (r *Report) Plot(w io.Writer, format string) error {
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	if format == ".svg" {
		canvas = vgsvg.New(width, height)
	} else {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(120))}
	}
	if err := r.draw(draw.New(canvas)); err != nil {
		return fmt.Errorf("bench: plot: %w", err)
	}
	_, err := canvas.WriteTo(w)
	return err
}

func (r *Report) draw(all draw.Canvas) error {
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	style := chart.Heading()
	all.FillText(style, vg.Point{X: 2 * gap, Y: all.Max.Y - gap}, "Time for a logit by number of classes: "+r.subject())
	style.Font.Size, style.Color = 9, chart.Grey
	all.FillText(style, vg.Point{X: 2 * gap, Y: all.Max.Y - gap - 18}, r.CPU+", "+r.Go)

	low, high := math.Inf(1), 0.0
	for i := range r.Lines {
		for _, d := range directions {
			for _, ns := range d.times(&r.Lines[i]) {
				low, high = min(low, ns), max(high, ns)
			}
		}
	}
	panel := (width - gap) / vg.Length(len(directions))
	for i, d := range directions {
		p := chart.New(d.name, "classes", "ns per logit")
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Min, p.X.Max = float64(r.Lines[0].Classes)/1.3, float64(r.Lines[len(r.Lines)-1].Classes)*1.3
		p.Y.Min, p.Y.Max = low/1.2, high*1.2
		p.X.Tick.Marker, p.Y.Tick.Marker = decades{}, decades{}
		p.Add(chart.Grid())
		legends := make([]plot.Legend, len(r.Kernels)) // of an entry each: they stand side by side
		for n, k := range slices.Backward(r.Kernels) { // the fastest is drawn over the others
			points := make(plotter.XYs, len(r.Lines))
			for j := range r.Lines {
				points[j] = plotter.XY{X: float64(r.Lines[j].Classes), Y: d.times(&r.Lines[j])[k]}
			}
			line, dots, err := plotter.NewLinePoints(points)
			if err != nil {
				return err
			}
			look := looks[k]
			line.Color, line.Width, line.Dashes = look.color, 1.5, look.dashes
			dots.Color, dots.Shape, dots.Radius = look.color, look.shape, 2.5
			p.Add(line, dots)
			legends[n] = p.Legend
			legends[n].Add(look.label, line, dots)
		}
		p.Draw(draw.Canvas{Canvas: all.Canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: gap + vg.Length(i)*panel, Y: gap},
			Max: vg.Point{X: vg.Length(i+1) * panel, Y: all.Max.Y - above},
		}})
		if i > 0 {
			continue
		}
		place := all
		place.Min.X, place.Max.Y = 2*gap, all.Max.Y-gap-35
		for _, l := range legends {
			l.Top, l.Left = true, true
			l.Draw(place)
			place.Min.X += l.Rectangle(place).Size().X + 2*gap
		}
	}
	return nil
}

// decades are ticks of a logarithmic axis, with labels at the powers of ten, and at more where there is room.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for e := math.Floor(math.Log10(low)); math.Pow(10, e) <= high; e++ {
		for m := 1; m < 10; m++ {
			label := strconv.FormatFloat(float64(m)*math.Pow(10, e), 'g', 1, 64)
			value, _ := strconv.ParseFloat(label, 64) // the nearest to the decimal
			tick := plot.Tick{Value: value}
			if m == 1 || high/low < 1000 && (m == 2 || m == 5) || high/low < 10 {
				tick.Label = strconv.FormatFloat(value, 'f', -1, 64)
			}
			if value >= low && value <= high {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}
