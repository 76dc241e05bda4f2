package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/golsr/lsr/internal/aside"
	"github.com/golsr/lsr/lsr/internal/bench"
	"github.com/spf13/cobra"
)

// createPlot starts the file of a plot, if there is to be one, in one of some formats: first, so that a path that is no good costs
// no time.
func createPlot(path string, formats ...string) (f *aside.File, format string, err error) {
	if path == "" {
		return nil, "", nil
	}
	if format = strings.ToLower(filepath.Ext(path)); !slices.Contains(formats, format) {
		return nil, "", fmt.Errorf("--plot: expected a %s file, got %q", strings.Join(formats, " or "), path)
	}
	f, err = aside.Create(path)
	return f, format, data(err)
}

// savePlot draws a plot, if there is to be one.
func savePlot(f *aside.File, draw func(io.Writer) error) error {
	if f == nil {
		return nil
	}
	if err := draw(f); err != nil {
		return data(err)
	}
	return data(aside.Commit(f))
}

func benchCommand() *cobra.Command {
	var plot string
	var asJSON bool
	cfg := bench.Defaults()
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure ns per logit by number of classes and kernel",
		Long: `Measure how long a logit takes, forward and forward with gradient, by number of classes, with each kernel that this machine
has; and, for float32 on one goroutine, in the usual loop with math.Exp. Batches have some 262144 logits and 8 rows at least. A
round has 1 ms for each to warm up and 1 ms that counts; the fastest counts. Leave the machine alone meanwhile.`,
		Example: `  lsr bench
  lsr bench --type bfloat16 --classes 10,1000,50257 --rounds 50 --plot speed.png`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			picture, format, err := createPlot(plot, ".png", ".svg")
			if err != nil {
				return err
			}
			if picture != nil {
				defer picture.Abort()
			}
			progress := bar(cmd.ErrOrStderr(), 1, "bench")
			report, err := bench.Run(cmd.Context(), cfg, func(done, total int) {
				progress.ChangeMax(total)
				progress.Set(done)
			})
			progress.Clear()
			if err != nil {
				return err
			}
			report.CPU = model()
			if err := savePlot(picture, func(w io.Writer) error { return report.Plot(w, format) }); err != nil {
				return err
			}
			if asJSON {
				return data(json.NewEncoder(cmd.OutOrStdout()).Encode(report))
			}
			if err := report.Table(cmd.OutOrStdout()); err != nil || plot == "" {
				return data(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nplot: %s\n", plot)
			return data(err)
		},
	}
	g := cmd.Flags()
	g.SortFlags = false
	g.IntSliceVar(&cfg.Classes, "classes", cfg.Classes, "numbers of classes")
	g.StringVar(&cfg.Type, "type", cfg.Type, "float32, float64, float16 or bfloat16")
	g.IntVar(&cfg.Workers, "workers", cfg.Workers, "goroutines; 0: one for each CPU")
	g.IntVar(&cfg.Rounds, "rounds", cfg.Rounds, "rounds; plain Go and the usual loop take part in one of 3")
	g.StringVar(&plot, "plot", "", "draw the table to this .png or .svg `file`")
	g.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
