// Command lsr trains on the digits, scores saved logits, and tells what it runs on. See lsr --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/golsr/lsr"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const version = "0.1.0"

// Exit statuses.
const (
	ok       = 0
	badData  = 1
	badUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// dataError is an error that is not the command line's: it ends the program with status 1 instead of 2.
type dataError struct{ error }

func (e dataError) Unwrap() error { return e.error }

// data marks an error as one of data.
func data(err error) error {
	if err == nil {
		return nil
	}
	return dataError{err}
}

// run is the program: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "lsr",
		Short:         "Label-smoothing cross-entropy: train on digits, score saved logits, look at the machine",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(trainCommand(), evalCommand(), infoCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ok
	}
	fmt.Fprintln(stderr, "lsr:", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "lsr: "), "\n", " "))
	if e := (dataError{}); errors.As(err, &e) {
		return badData
	}
	return badUsage
}

func infoCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "info",
		Short:   "Version, architecture, CPU features, kernels",
		Example: "  lsr info",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kernels := lsr.Kernels()
			fmt.Fprintf(cmd.OutOrStdout(), "version   %s (%s)\nplatform  %s/%s, %d CPUs\nfeatures  %s\nkernels   %s\nchosen    %s\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0),
				strings.Join(features(), " "), strings.Join(kernels, " "), kernels[0])
			return nil
		},
	}
}

// bar is a progress bar on w if that is a terminal, else nil.
func bar(w io.Writer, total int64, text string) *progressbar.ProgressBar {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(text),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(1e8))
}
