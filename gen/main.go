// Command gen makes the kernels of package lsr: the assembly with avo, and with jennifer the Go around it.
//
// In a user's own module, it makes kernels for class counts of the user's own:
//
//	//go:generate go tool gen --classes 37,1203 --types float32,bfloat16
//
// In the folder of package lsr, and without class counts, it makes the files of package lsr.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/build"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/golsr/lsr/internal/aside"
	"github.com/golsr/lsr/internal/asm"
)

func main() {
	switch err := run(os.Args[1:], os.Stdout); {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "gen:", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	classes      []int
	types, isas  []string
	dir, pkg     string
	name         string
	check        bool
	elements     []asm.Element
	instructions []asm.ISA
}

func run(args []string, out io.Writer) error {
	var o options
	flags := pflag.NewFlagSet("gen", pflag.ContinueOnError)
	flags.SetOutput(out)
	flags.SortFlags = false
	flags.IntSliceVar(&o.classes, "classes", nil, "class counts, 1 and above; none: the files of package lsr itself")
	flags.StringSliceVar(&o.types, "types", []string{"float32"}, "element types: float32, float64, float16, bfloat16")
	flags.StringSliceVar(&o.isas, "isas", []string{"avx2", "avx512"}, "instruction sets: avx2, avx512")
	flags.StringVar(&o.dir, "dir", ".", "folder of the package to write to")
	flags.StringVar(&o.pkg, "package", "", "its name (default: what go generate or the files there say)")
	flags.StringVar(&o.name, "name", "lsr_kernels", "what names of files begin with")
	flags.BoolVar(&o.check, "check", false, "write nothing; fail if what is there differs from what would be written")
	flags.Usage = func() {
		fmt.Fprintf(out, "Usage: go tool gen --classes 37,1203 [--types float32,bfloat16]\n\nMakes kernels of package lsr for class counts of your own, in your own package.\n\n%s\nExample, in a Go file of that package:\n\n  //go:generate go tool gen --classes 37,1203 --types float32,bfloat16\n", flags.FlagUsages())
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 0 {
		return fmt.Errorf("expected flags only, got %q", flags.Arg(0))
	}
	for _, name := range []string{"types", "isas", "package", "name"} {
		if flags.Changed(name) && !flags.Changed("classes") {
			return fmt.Errorf("--%s is of use with --classes only: expected, for instance, --classes 37", name)
		}
	}
	files, err := o.make(flags.Changed("classes"))
	if err != nil {
		return err
	}
	if o.check {
		return check(o.dir, files)
	}
	return write(o.dir, files)
}

// file is a file to write.
type file struct {
	name string
	data []byte
}

// make makes all files in memory.
func (o *options) make(users bool) ([]file, error) {
	if !users {
		if _, err := os.Stat(filepath.Join(o.dir, "lsr_generic.go")); err != nil {
			return nil, fmt.Errorf("no --classes, and %s is not the folder of package lsr: expected, for instance, --classes 37", o.dir)
		}
		return core()
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	return user(o)
}

// complete checks the options, and finds what they leave open.
func (o *options) complete() error {
	if len(o.classes) == 0 {
		return errors.New("--classes is empty, expected class counts such as 37,1203")
	}
	for _, k := range o.classes {
		if k < 1 || k > math.MaxInt32 {
			return fmt.Errorf("--classes must be in [1, 2³¹), got %d", k)
		}
	}
	slices.Sort(o.classes)
	o.classes = slices.Compact(o.classes)
	for _, name := range o.types {
		e, ok := asm.Elements[name]
		if !ok {
			return fmt.Errorf("--types must be float32, float64, float16 or bfloat16, got %q", name)
		}
		o.elements = append(o.elements, e)
	}
	for _, name := range o.isas {
		i, ok := asm.ISAs[name]
		if !ok {
			return fmt.Errorf("--isas must be avx2 or avx512, got %q", name)
		}
		o.instructions = append(o.instructions, i)
	}
	slices.Sort(o.elements)
	slices.Sort(o.instructions)
	o.elements, o.instructions = slices.Compact(o.elements), slices.Compact(o.instructions)
	if len(o.elements) == 0 || len(o.instructions) == 0 {
		return errors.New("--types and --isas must name something")
	}
	if !fileName(o.name) {
		return fmt.Errorf("--name must be what names of Go files for every machine can begin with, such as lsr_kernels, got %q", o.name)
	}
	return o.findPackage()
}

// nameOf has names that the go command takes, in every file system.
var nameOf = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// fileName reports whether the go command builds a file of that name, with .go behind it, for every machine: not one like
// x_linux or x_test.
func fileName(name string) bool {
	nowhere := build.Context{GOOS: "none", GOARCH: "none", Compiler: "gc", OpenFile: func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("package p\n")), nil
	}}
	ok, err := nowhere.MatchFile("", name+".go")
	return ok && err == nil && nameOf.MatchString(name) && !strings.HasSuffix(name, "_test")
}

// check compares files with those that are there.
func check(dir string, files []file) error {
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(old, f.data) {
			return fmt.Errorf("%s differs from what would be written", path)
		}
	}
	return nil
}

// generatedFile is how a generated file begins.
var generatedFile = regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.\r?\n`)

// write writes files aside, and renames them when all are written. A file that is there and is not generated is an error.
func write(dir string, files []file) error {
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		old, err := os.ReadFile(path)
		if err == nil && !generatedFile.Match(old) {
			return fmt.Errorf("%s is there and is not generated: it stays as it is", path)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	var under []*aside.File
	for _, f := range files {
		a, err := aside.Create(filepath.Join(dir, f.name))
		if err != nil {
			return err
		}
		defer a.Abort()
		if _, err := a.Write(f.data); err != nil {
			return err
		}
		under = append(under, a)
	}
	return aside.Commit(under...)
}
