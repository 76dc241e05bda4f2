// Package chart is the looks of the command's plots.
package chart

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg/draw"
)

// The colours are three of M. Okabe and K. Ito's (Color Universal Design, 2008), told apart with any colour vision.
var (
	Blue   = color.NRGBA{0, 114, 178, 255}
	Orange = color.NRGBA{213, 94, 0, 255}
	Green  = color.NRGBA{0, 158, 115, 255}
	Grey   = color.NRGBA{120, 120, 120, 255}
	faint  = color.NRGBA{220, 220, 220, 255}
)

// New is an empty plot.
func New(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font.Size, p.Title.TextStyle.Font.Variant = 10, "Sans"
	p.Title.Padding = 4
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font.Size, axis.Label.TextStyle.Font.Variant = 9, "Sans"
		axis.Tick.Label.Font.Size, axis.Tick.Label.Font.Variant = 8, "Sans"
		axis.Color, axis.Tick.Color = Grey, Grey
		axis.Padding = 2
	}
	p.Legend.TextStyle.Font.Size, p.Legend.TextStyle.Font.Variant = 8, "Sans"
	p.Legend.Padding = 2
	return p
}

// Grid is lines at the ticks.
func Grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Vertical.Color = faint, faint
	return g
}

// Heading is the style of a line above plots, at its upper left corner.
func Heading() text.Style {
	style := plot.New().Title.TextStyle
	style.Font.Size, style.Font.Variant = 12, "Sans"
	style.XAlign, style.YAlign = draw.XLeft, draw.YTop
	return style
}
