package main

import (
	"fmt"
	"strings"

	"github.com/golsr/lsr/lsr/internal/digits"
	"github.com/golsr/lsr/lsr/internal/train"
	"github.com/spf13/cobra"
)

func trainCommand() *cobra.Command {
	var dir, plot string
	cfg := train.Defaults()
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train on digits with wrong labels: does smoothing help?",
		Long: `Train a network with one hidden layer on handwritten digits, a share of whose training labels is made wrong, and again on
the right labels, for each smoothing and several seeds; print accuracy, NLL and calibration error on the test set.`,
		Example: `  lsr train
  lsr train --noise 0.4 --smoothing 0,0.1,0.3 --plot digits.png
  lsr train --data /usr/share/datasets/fashion-mnist --train-rows 5000 --epochs 10`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := digits.Load()
			if dir != "" {
				set, err = digits.ReadIDX(dir)
			}
			if err != nil {
				return data(err)
			}
			picture, _, err := createPlot(plot, ".png")
			if err != nil {
				return err
			}
			if picture != nil {
				defer picture.Abort()
			}
			progress := bar(cmd.ErrOrStderr(), 1, "train")
			report, err := train.Run(cmd.Context(), set, cfg, func(done, total int) {
				progress.ChangeMax(total)
				progress.Set(done)
			})
			progress.Clear()
			if err != nil {
				return err
			}
			if err := report.Table(cmd.OutOrStdout()); err != nil {
				return data(err)
			}
			if err := savePlot(picture, report.Plot); err != nil || plot == "" {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nplot: %s\n", plot)
			return data(err)
		},
	}
	g := cmd.Flags()
	g.SortFlags = false
	g.Float64SliceVar(&cfg.Epsilons, "smoothing", cfg.Epsilons, "smoothings to compare, in a `list`")
	g.Lookup("smoothing").DefValue = strings.Trim(strings.ReplaceAll(fmt.Sprint(cfg.Epsilons), " ", ","), "[]")
	g.Float64Var(&cfg.Noise, "noise", cfg.Noise, "share of the training labels made wrong, in [0, 1)")
	g.IntVar(&cfg.Seeds, "seeds", cfg.Seeds, "seeds to average over")
	g.IntVar(&cfg.Epochs, "epochs", cfg.Epochs, "passes over the training rows")
	g.IntVar(&cfg.Hidden, "hidden", cfg.Hidden, "units of the hidden layer")
	g.IntVar(&cfg.TrainRows, "train-rows", cfg.TrainRows, "rows to train on")
	g.StringVar(&dir, "data", "", "read gzipped IDX files from this `directory` instead of the embedded digits")
	g.StringVar(&plot, "plot", "", "draw reliability diagrams and accuracy to this .png `file`")
	return cmd
}
