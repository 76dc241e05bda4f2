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
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
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
	if errors.Is(err, context.Canceled) {
		err = data(errors.New("interrupted"))
	}
	fmt.Fprintln(stderr, strings.NewReplacer(": lsr: ", ": ", "\n", " ").Replace("lsr: "+err.Error()))
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
			criterion, err := lsr.New()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "version   %s (%s)\nplatform  %s/%s, %d CPUs\nfeatures  %s\nkernels   %s\nchosen    %s\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0),
				strings.Join(features(), " "), strings.Join(lsr.Kernels(), " "), criterion.Kernel())
			return data(err)
		},
	}
}

// bar is a progress bar, which shows if w is a terminal. Clear it when done: an error may come before it is full.
func bar(w io.Writer, total int64, text string) *progressbar.ProgressBar {
	f, isFile := w.(*os.File)
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(text),
		progressbar.OptionSetVisibility(isFile && term.IsTerminal(int(f.Fd()))),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(1e8))
}
