// Command lsr trains on the digits, scores saved logits, measures speed, and tells what it runs on. See lsr --help.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/golsr/lsr"
	"github.com/golsr/lsr/internal/coef"
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
		Short:         "Label-smoothing cross-entropy: train on digits, score saved logits, measure speed",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(trainCommand(), evalCommand(), benchCommand(), infoCommand())
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
		Short:   "Version, architecture, CPU features, kernels, and the class counts that have special ones",
		Example: "  lsr info",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen := "none"
			criterion, unknown := lsr.New() // LSR_KERNEL may name what this machine has not
			if unknown == nil {
				chosen = criterion.Kernel()
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "version   %s (%s)\nplatform  %s/%s, %d CPUs\nfeatures  %s\nkernels   %s\nchosen    %s\nspecial   %s\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0),
				strings.Join(features(), " "), strings.Join(lsr.Kernels(), " "), chosen, specialized())
			return cmp.Or(data(err), unknown)
		},
	}
}

// specialized lists the class counts, of rows that are taken whole, that have kernels of their own.
func specialized() string {
	kernels := lsr.Kernels()
	texts := make([]string, len(kernels))
	for i, k := range kernels {
		texts[i] = group([]string{"float32", "float64", "float16", "bfloat16"},
			[]string{classes[float32](k), classes[float64](k), classes[lsr.Float16](k), classes[lsr.BFloat16](k)})
	}
	return cmp.Or(group(kernels, texts), "none")
}

// classes lists the class counts that a kernel has special ones for.
func classes[T lsr.Element](kernel string) string {
	var counts []string
	for k := 1; k <= coef.Long; k++ {
		if slices.Contains(lsr.SpecializedFor[T](k), kernel) {
			counts = append(counts, strconv.Itoa(k))
		}
	}
	return strings.Join(counts, " ")
}

// group writes each text once, after the names that have it.
func group(names, texts []string) string {
	var parts []string
	for i, text := range texts {
		if text == "" || slices.Contains(texts[:i], text) {
			continue
		}
		who := ""
		for j := range texts {
			if texts[j] == text {
				who += names[j] + " "
			}
		}
		parts = append(parts, strings.TrimSpace(who)+": "+text)
	}
	return strings.Join(parts, "; ")
}

// bar is a progress bar, which shows if w is a terminal. Clear it when done: an error may come before it is full.
func bar(w io.Writer, total int64, text string) *progressbar.ProgressBar {
	f, isFile := w.(*os.File)
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(text),
		progressbar.OptionSetVisibility(isFile && term.IsTerminal(int(f.Fd()))),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(1e8))
}
