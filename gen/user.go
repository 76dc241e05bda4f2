package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/build"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/golsr/lsr/internal/asm"
	"github.com/golsr/lsr/internal/coef"
)

const lsrPath = "github.com/golsr/lsr"

// findPackage finds the name of the package in the folder: what the flag or go generate says, or what its files say.
func (o *options) findPackage() error {
	info, err := os.Stat(o.dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("--dir must be the folder of a package, got the file %s", o.dir)
	}
	if o.pkg == "" && o.dir == "." {
		o.pkg = strings.TrimSuffix(os.Getenv("GOPACKAGE"), "_test")
	}
	context := build.Default
	context.CgoEnabled = true // so that its files are seen
	p, err := context.ImportDir(o.dir, 0)
	if none := (*build.NoGoError)(nil); err != nil && !errors.As(err, &none) && o.pkg == "" {
		return err
	}
	if len(p.CgoFiles) != 0 {
		return fmt.Errorf("%s uses cgo, which allows no assembly of Go's in a package: expected another", filepath.Join(o.dir, p.CgoFiles[0]))
	}
	if o.pkg == "" {
		o.pkg = p.Name
	}
	if o.pkg == "" {
		return fmt.Errorf("%s has no Go files, so it is no package: expected one, or its name by --package", o.dir)
	}
	if !token.IsIdentifier(o.pkg) || o.pkg == "_" {
		return fmt.Errorf("--package must be an identifier, got %q", o.pkg)
	}
	if p.Name != "" && p.Name != o.pkg && err == nil {
		return fmt.Errorf("the package in %s is %s, but --package or go generate says %s", o.dir, p.Name, o.pkg)
	}
	return nil
}

// kernels are those for the class counts. Long rows need them for a segment's classes and for the rest.
func (o *options) kernels() (ks []asm.Kernel) {
	forms := []asm.Form{asm.Uniform, asm.Classwise, asm.Dense}
	computed := o.elements
	for _, e := range o.elements {
		if e > asm.Float64 && !slices.Contains(computed, asm.Float32) { // planes of half types are widened
			computed = append(slices.Clone(computed), asm.Float32)
		}
	}
	add := func(k []asm.Kernel) {
		for _, k := range k {
			if !slices.Contains(ks, k) {
				ks = append(ks, k)
			}
		}
	}
	for _, classes := range o.classes {
		if classes > 1 && classes <= asm.PlaneClasses {
			add(asm.SpecializedPlanes(classes, computed, o.instructions, forms))
			if classes < asm.RowClasses {
				continue
			}
		}
		segment := coef.SegmentOf(classes)
		add(asm.SpecializedRows(segment, o.elements, o.instructions))
		if rest := classes % segment; rest != 0 {
			add(asm.SpecializedRows(rest, o.elements, o.instructions))
		}
	}
	return ks
}

// alone reports whether there are kernels in the package that another --name made: some functions would be there twice.
func (o *options) alone() error {
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, assembly := strings.CutSuffix(e.Name(), "_amd64.s")
		if !assembly || name == o.name {
			continue
		}
		path := filepath.Join(o.dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(text, []byte("// "+generated)) {
			return fmt.Errorf("%s has kernels already: expected one call for all class counts and types of a package, with --name %s, or none of its files", path, name)
		}
	}
	return nil
}

// user makes the files of a user's package.
func user(o *options) ([]file, error) {
	kernels := o.kernels()
	if err := o.alone(); err != nil {
		return nil, err
	}
	assembly, err := assemble(kernels)
	if err != nil {
		return nil, err
	}
	files := []file{{o.name + "_amd64.s", assembly}}
	return render(files, []goFile{
		{o.name + "_amd64.go", o.registration(kernels)},
		{o.name + ".go", o.wrappers()},
		{o.name + "_test.go", o.tests()},
	})
}

// header starts a file of a user's package.
func (o *options) header(constraint string) *jen.File {
	f := header(o.pkg, constraint)
	f.ImportName(lsrPath, "lsr")
	f.ImportName(lsrPath+"/lsrtest", "lsrtest")
	return f
}

// registration declares kernels and tells package lsr of them.
func (o *options) registration(kernels []asm.Kernel) *jen.File {
	f := o.header("!purego")
	declare(f, kernels)
	f.Func().Id("init").Params().Block(jen.Qual(lsrPath, registerName()).CallFunc(func(g *jen.Group) {
		for _, k := range kernels {
			g.Line().Qual(lsrPath, "GeneratedKernel").Values(jen.Dict{
				jen.Id("ISA"):     jen.Lit(strings.ToLower(k.ISA.String())),
				jen.Id("Element"): jen.Lit(strings.ToLower(k.Element.String())),
				jen.Id("Classes"): jen.Lit(k.Classes),
				jen.Id("Op"):      jen.Lit(int(k.Op)),
				jen.Id("Form"):    jen.Lit(int(k.Form)),
				jen.Id("Kernel"):  jen.Id(k.Name()),
			})
		}
		g.Line()
	}))
	return f
}

// each calls f for each class count and element type, with a name for the two and the type's expression.
func (o *options) each(f func(name string, classes int, element jen.Code)) {
	for _, classes := range o.classes {
		for _, e := range o.elements {
			element := jen.Qual(lsrPath, e.String())
			if e <= asm.Float64 {
				element = jen.Id(strings.ToLower(e.String()))
			}
			f(fmt.Sprintf("%d%s", classes, e), classes, element)
		}
	}
}

// wrappers are the package's functions, in every build.
func (o *options) wrappers() *jen.File {
	f := o.header("")
	f.Comment("If this does not compile, package lsr is another version than the one these files were made for: run go generate.")
	f.Var().Id("_").Op("=").Qual(lsrPath, registerName())
	label := func() jen.Code { return jen.Id("L").Qual(lsrPath, "Label") }
	result := func() jen.Code { return jen.Params(jen.Qual(lsrPath, "Result"), jen.Error()) }
	o.each(func(name string, classes int, element jen.Code) {
		rows := func(data string) jen.Code { return jen.Qual(lsrPath, "Rows").Call(jen.Id(data), jen.Lit(classes)) }
		f.Commentf("Forward%s is lsr.Forward for rows of %d classes.", name, classes)
		f.Func().Id("Forward"+name).Types(label()).Params(jen.Id("c").Op("*").Qual(lsrPath, "Criterion"), jen.Id("logits").Index().Add(element),
			jen.Id("targets").Index().Id("L"), jen.Id("perRow").Op("...").Qual(lsrPath, "PerRow")).Add(result()).Block(
			jen.Return(jen.Qual(lsrPath, "Forward").Call(jen.Id("c"), rows("logits"), jen.Id("targets"), jen.Id("perRow").Op("..."))))
		f.Commentf("Grad%s is lsr.Grad for rows of %d classes.", name, classes)
		f.Func().Id("Grad"+name).Types(label()).Params(jen.Id("c").Op("*").Qual(lsrPath, "Criterion"), jen.List(jen.Id("dst"), jen.Id("logits")).Index().Add(element),
			jen.Id("targets").Index().Id("L"), jen.Id("perRow").Op("...").Qual(lsrPath, "PerRow")).Add(result()).Block(
			jen.Return(jen.Qual(lsrPath, "Grad").Call(jen.Id("c"), rows("dst"), rows("logits"), jen.Id("targets"), jen.Id("perRow").Op("..."))))
	})
	return f
}

// tests compare the kernels with plain Go, fuzz them, and measure them.
func (o *options) tests() *jen.File {
	f := o.header("")
	one := func(what, function, parameter, kind string) {
		o.each(func(name string, classes int, element jen.Code) {
			f.Func().Id(what + "LSR" + name).Params(jen.Id(parameter).Op("*").Qual("testing", kind)).Block(
				jen.Qual(lsrPath+"/lsrtest", function).
					Types(element).CallFunc(func(g *jen.Group) {
					g.Id(parameter)
					g.Lit(classes)
					if what == "Test" && len(o.instructions) < len(asm.ISAs) {
						for _, i := range o.instructions {
							g.Lit(strings.ToLower(i.String()))
						}
					}
				}))
		})
	}
	one("Test", "Exact", "t", "T")
	one("Fuzz", "Fuzz", "f", "F")
	one("Benchmark", "Benchmark", "b", "B")
	return f
}
