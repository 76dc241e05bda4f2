package main

import (
	"bytes"
	"errors"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets this test binary be the command as well, for tests that need a process.
func TestMain(m *testing.M) {
	if os.Getenv("LSR_TEST_GEN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command is this command, in a folder.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LSR_TEST_GEN=1", "GOPACKAGE=")
	return cmd
}

// generate runs this command in a process of its own.
func generate(t *testing.T, dir string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(t, dir, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// snapshot is all files under a folder.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			files[name+"/"] = ""
			return err
		}
		b, err := os.ReadFile(path)
		files[name] = string(b)
		return err
	}))
	return files
}

// save writes files, such as those of a snapshot, into a folder.
func save(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(path, 0o777))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	}
}

// folder is one with package p.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	save(t, dir, map[string]string{"p.go": "package p\n"})
	return dir
}

// written are the names of files that a user's package gets.
func written(name string) []string {
	return []string{name + ".go", name + "_amd64.go", name + "_amd64.s", name + "_test.go"}
}

// The files of package lsr are what this command makes.
func TestCore(t *testing.T) {
	files, err := core()
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.name)
		b, err := os.ReadFile(filepath.Join("..", f.name))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(f.data, b), "%s differs from what go run ./gen writes", f.name)
	}
	var there []string
	for _, f := range coreFiles(t) {
		if f.generated {
			there = append(there, f.name)
		}
	}
	assert.ElementsMatch(t, names, there, "all generated files are made")
	require.NoError(t, run([]string{"--dir", "..", "--check"}, io.Discard))
}

type coreFile struct {
	name, text string
	generated  bool
}

// coreFiles are the Go and assembly files of package lsr.
func coreFiles(t *testing.T) (files []coreFile) {
	t.Helper()
	for _, pattern := range []string{"*.go", "*.s"} {
		paths, err := filepath.Glob(filepath.Join("..", pattern))
		require.NoError(t, err)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			files = append(files, coreFile{filepath.Base(path), string(b), generatedFile.Match(b)})
		}
	}
	return files
}

// They can be made where there are none, without a network.
func TestCoreFromNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: go run ./gen where all generated files are gone")
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "gen"), os.DirFS(".")))
	require.NoError(t, os.CopyFS(filepath.Join(dir, "internal"), os.DirFS("../internal")))
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		save(t, dir, map[string]string{name: string(b)})
	}
	want := map[string]string{}
	for _, f := range coreFiles(t) {
		if f.generated {
			want[f.name] = f.text
		} else {
			save(t, dir, map[string]string{f.name: f.text})
		}
	}
	before := snapshot(t, dir)
	cmd := exec.Command("go", "run", "./gen")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	maps.Copy(before, want)
	after := snapshot(t, dir)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	for name, text := range after {
		assert.True(t, text == before[name], "%s differs", name)
	}
}

// Bad use gets one line and exit status 1, and writes nothing.
func TestBadUse(t *testing.T) {
	root := t.TempDir()
	byHand := "package hand\n\n// This one was written by hand. The others say DO NOT EDIT.\n"
	save(t, root, map[string]string{
		"p/p.go":                   "package p\n",
		"file":                     "",
		"empty/README":             "",
		"ignored/a.go":             "//go:build ignore\n\npackage main\n",
		"two/a.go":                 "package a\n",
		"two/b.go":                 "package b\n",
		"broken/a.go":              "pack",
		"hand/lsr_kernels_test.go": byHand,
		"folder/a.go":              "package folder\n",
		"folder/lsr_kernels.go/a":  "a folder of that name",
		"cgo/a.go":                 "package cgo\n\nimport \"C\"\n",
		"other/a.go":               "package other\n",
		"other/a_amd64.s":          "// Code generated by github.com/golsr/lsr/gen. DO NOT EDIT.\n",
	})
	before := snapshot(t, root)
	for _, c := range []struct {
		args, message string
	}{
		{"", "no --classes, and . is not the folder of package lsr"},
		{"--check", "no --classes"},
		{"--types float64", "--types is of use with --classes only"},
		{"--classes", "flag needs an argument: --classes"},
		{"--classes=", `invalid argument "" for "--classes"`},
		{"--classes 0", "--classes must be in [1, 2³¹), got 0"},
		{"--classes 3,0", "got 0"},
		{"--classes=-1", "got -1"},
		{"--classes 2147483648", "2147483648"},
		{"--classes 99999999999999999999", "value out of range"},
		{"--classes 1.5", "1.5"},
		{"--classes many", "many"},
		{"--classes 3 --types int8", `--types must be float32, float64, float16 or bfloat16, got "int8"`},
		{"--classes 3 --types=", "--types and --isas must name something"},
		{"--classes 3 --types float32,", `got ""`},
		{"--classes 3 --isas sse", `--isas must be avx2 or avx512, got "sse"`},
		{"--classes 3 --isas=", "--types and --isas must name something"},
		{"--classes 3 4", `expected flags only, got "4"`},
		{"--classes 3 --colour", "unknown flag: --colour"},
		{"--classes 3 --two\nlines", "unknown flag: --two lines"},
		{"--classes 3 --dir ../none", "--dir: stat ../none: no such file or directory"},
		{"--classes 3 --dir ../none --package p", "--dir: stat ../none"},
		{"--classes 3 --dir=", "--dir: stat"},
		{"--classes 3 --dir ../file", "--dir must be the folder of a package, got the file ../file"},
		{"--classes 3 --dir ../empty", "../empty has no Go files, so it is no package"},
		{"--classes 3 --dir ../ignored", "../ignored has no Go files"},
		{"--classes 3 --dir ../two", "found packages a (a.go) and b (b.go)"},
		{"--classes 3 --dir ../broken", "expected 'package'"},
		{"--classes 3 --dir ../hand", "lsr_kernels_test.go is there and is not generated: it stays as it is"},
		{"--classes 3 --dir ../folder", "is a directory"},
		{"--classes 3 --dir ../cgo", "../cgo/a.go uses cgo"},
		{"--classes 3 --dir ../other", "../other/a_amd64.s has kernels already: expected one call"},
		{"--classes 3 --package q", "the package in . is p, but --package or go generate says q"},
		{"--classes 3 --package 3d", `--package must be an identifier, got "3d"`},
		{"--classes 3 --package func", `got "func"`},
		{"--classes 3 --package _", `got "_"`},
		{"--classes 3 --package a.b", `got "a.b"`},
		{"--classes 3 --name=", `--name must be what names of Go files for every machine can begin with, such as lsr_kernels, got ""`},
		{"--classes 3 --name p", "p.go is there and is not generated"},
		{"--classes 3 --name ../p/x", `got "../p/x"`},
		{"--classes 3 --name _x", `got "_x"`}, // the go command does not look at these
		{"--classes 3 --name .x", `got ".x"`},
		{"--classes 3 --name x_test", `got "x_test"`},
		{"--classes 3 --name x_windows", `got "x_windows"`}, // nor at these elsewhere
		{"--classes 3 --name x_arm64", `got "x_arm64"`},
		{"--classes 3 --name " + strings.Repeat("x", 250), "name too long"},
		{"--classes 3 --check", "lsr_kernels"},
	} {
		status, stdout, stderr := generate(t, filepath.Join(root, "p"), strings.FieldsFunc(c.args, func(r rune) bool { return r == ' ' })...)
		assert.Equal(t, 1, status, c.args)
		assert.Empty(t, stdout, c.args)
		assert.Regexp(t, `^gen: [^\n]+\n$`, stderr, c.args)
		assert.Contains(t, stderr, c.message, c.args)
		require.Equal(t, before, snapshot(t, root), "%s has written", c.args)
	}
}

func TestHelp(t *testing.T) {
	dir := folder(t)
	status, stdout, stderr := generate(t, dir, "--help")
	assert.Zero(t, status)
	assert.Empty(t, stderr)
	for _, flag := range []string{"--classes", "--types", "--isas", "--dir", "--package", "--name", "--check", "//go:generate go tool gen"} {
		assert.Contains(t, stdout, flag)
	}
	assert.Len(t, snapshot(t, dir), 2)
}

// --check fails when something differs, and writes nothing.
func TestCheck(t *testing.T) {
	dir := folder(t)
	args := []string{"--classes", "3,65"}
	status, stdout, stderr := generate(t, dir, args...)
	require.Zero(t, status, stderr)
	assert.Empty(t, stdout+stderr)
	all := snapshot(t, dir)
	check := append(args, "--check")
	status, stdout, stderr = generate(t, dir, check...)
	require.Zero(t, status, stderr)
	assert.Empty(t, stdout+stderr)
	for _, name := range written("lsr_kernels") {
		path := filepath.Join(dir, name)
		require.Contains(t, all, name)
		for _, damage := range []func() error{
			func() error { return os.Remove(path) },
			func() error { return os.WriteFile(path, []byte(all[name]+"\n"), 0o666) },
		} {
			require.NoError(t, damage())
			before := snapshot(t, dir)
			status, _, stderr = generate(t, dir, check...)
			assert.Equal(t, 1, status)
			assert.Regexp(t, `^gen: [^\n]*`+name+`[^\n]*\n$`, stderr)
			assert.Equal(t, before, snapshot(t, dir))
			save(t, dir, map[string]string{name: all[name]})
		}
	}
	status, _, _ = generate(t, dir, "--classes", "3", "--check")
	assert.Equal(t, 1, status, "other classes")
	status, _, _ = generate(t, dir, "--classes", "65,3,65", "--types", "float32,float32", "--isas", "avx512,avx2", "--check")
	assert.Zero(t, status, "the order does not count")
}

// The package's name is what flag, go generate or files say, and the files' names and folder are what flags say.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		what, goPackage string
		files           map[string]string
		args            []string
		want            string
	}{
		{"files", "", map[string]string{"a.go": "package a\n"}, nil, "a"},
		{"tests of another package", "", map[string]string{"a_test.go": "package a_test\n"}, nil, "a"},
		{"a file that is not built", "", map[string]string{"a.go": "package a\n", "z.go": "//go:build ignore\n\npackage main\n"}, nil, "a"},
		{"go generate", "b", map[string]string{"z.go": "//go:build ignore\n\npackage b\n"}, nil, "b"},
		{"go generate in tests of another package", "a_test", nil, nil, "a"},
		{"--package", "b", map[string]string{"c.go": "package c\n"}, []string{"--package", "c"}, "c"},
		{"--name", "", map[string]string{"a.go": "package a\n"}, []string{"--name", "linux-k3.v1_x"}, "a"},
		{"a package named like one that is imported", "lsr", nil, nil, "lsr"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			save(t, dir, c.files)
			t.Chdir(dir)
			t.Setenv("GOPACKAGE", c.goPackage)
			require.NoError(t, run(append(c.args, "--classes", "3"), io.Discard))
			name := "lsr_kernels"
			if c.what == "--name" {
				name = c.args[1]
			}
			assert.Equal(t, c.want, valid(t, dir, name))
			assert.Len(t, snapshot(t, dir), 1+len(c.files)+4)
		})
	}
	t.Run("--dir", func(t *testing.T) {
		dir := t.TempDir()
		save(t, dir, map[string]string{"here/a.go": "package a\n", "there/b.go": "package b\n"})
		t.Chdir(filepath.Join(dir, "here"))
		t.Setenv("GOPACKAGE", "a")
		require.NoError(t, run([]string{"--dir", "../there", "--classes", "3"}, io.Discard))
		assert.Equal(t, "b", valid(t, "../there", "lsr_kernels"), "go generate speaks of another folder")
		assert.Len(t, snapshot(t, "."), 2)
	})
}

var (
	absolutePath = regexp.MustCompile(`(?m)(^|[\s"'(=])(/\w|[A-Za-z]:\\)`)
	function     = regexp.MustCompile(`(?m)^(?:TEXT ·|func )([a-z]\w*)\((?:SB|a unsafe\.Pointer|a \*args)\)`)
)

// valid checks a user's generated files, and returns the package's name.
func valid(t *testing.T, dir, name string) (pkg string) {
	t.Helper()
	functions := map[string][]string{}
	for _, name := range written(name) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		begins(t, name, b)
		for _, f := range function.FindAllSubmatch(b, -1) {
			functions[filepath.Ext(name)] = append(functions[filepath.Ext(name)], string(f[1]))
		}
		if filepath.Ext(name) == ".s" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, b, parser.SkipObjectResolution)
		require.NoError(t, err)
		formatted, err := format.Source(b)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(b, formatted), "%s is not gofmt-ed", name)
		if pkg == "" {
			pkg = f.Name.Name
		}
		assert.Equal(t, pkg, f.Name.Name)
	}
	assert.NotEmpty(t, functions[".s"])
	assert.Equal(t, functions[".s"], functions[".go"], "functions in assembly, and their declarations")
	return pkg
}

// begins checks a generated file's first line, and that no file says where it was made.
func begins(t *testing.T, name string, b []byte) {
	t.Helper()
	assert.True(t, bytes.HasPrefix(b, []byte("// Code generated by github.com/golsr/lsr/gen. DO NOT EDIT.\n")), "%s begins with %.80q", name, b)
	assert.Empty(t, string(absolutePath.Find(b)), name)
}

func TestGeneratedFiles(t *testing.T) {
	for _, s := range []string{"x /tmp", `"/home`, "\n/root", `'C:\`} {
		assert.Regexp(t, absolutePath, s)
	}
	files, err := core()
	require.NoError(t, err)
	for _, f := range files {
		begins(t, f.name, f.data)
	}
	dir := folder(t)
	full, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.NoError(t, run([]string{"--dir", full, "--classes", "1,5,65,8197", "--types", "float32,float64,float16,bfloat16"}, io.Discard))
	assert.Equal(t, "p", valid(t, dir, "lsr_kernels"))
}

// slowClasses are class counts whose kernels are large.
var slowClasses = regexp.MustCompile(`(^|[=,+])0*[1-9]\d(,|$)`)

// Whatever the flags, there is an error and nothing is written, or there is a complete set of files.
func FuzzFlags(f *testing.F) {
	for _, line := range []string{
		"", "-h", "--help --classes 3", "--check --classes 3", "--classes 3", "--classes=1,2,3 --types float64,bfloat16 --isas avx2",
		"--classes 4097,9 --name x --package q", "--classes 2147483647 --name a.b-c_d", "--classes 0", "--classes 3 --name p",
		"--classes 3 --name ../p/x", "--classes 3 --package func", "--classes 3 --name x_linux", "--classes 3 --types \"float32\"",
		"-- --classes 3", "--classes 3 -- x", "--classes 3 --check=0 --isas avx512 --types float16", "--classes\n3", "--classes 7 --name \x00",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		for _, arg := range args {
			if strings.HasPrefix(arg, "--dir") || slowClasses.MatchString(arg) || len(line) > 200 {
				t.Skip("another folder, or slow")
			}
		}
		root := t.TempDir()
		save(t, root, map[string]string{"beside": "", "p/p.go": "package p\n"})
		before := snapshot(t, root)
		t.Chdir(filepath.Join(root, "p"))
		t.Setenv("GOPACKAGE", "")
		var out strings.Builder
		err := run(args, &out)
		after := snapshot(t, root)
		if err != nil || out.Len() != 0 { // out is help
			assert.Equal(t, before, after)
			return
		}
		for name, text := range before {
			assert.Equal(t, text, after[name])
			delete(after, name)
		}
		require.Len(t, after, 4)
		names := slices.Sorted(maps.Keys(after))
		valid(t, ".", strings.TrimSuffix(filepath.Base(names[0]), ".go"))
	})
}

// The go command leaves out files of some names, and takes others for tests or for one machine.
func TestFileName(t *testing.T) {
	for _, name := range []string{"lsr_kernels", "x", "linux", "9", "k-3.x", "x_linuxes", "x_linux_1"} {
		assert.True(t, fileName(name), name)
	}
	for _, name := range []string{"", "_x", ".x", "-x", "x/y", `x\y`, "x y", "x\n", "ü", "x_test", "x_linux", "x_js", "x_amd64", "linux_s390x", "x_linux_amd64"} {
		assert.False(t, fileName(name), name)
	}
}

// An error in the midst of writing leaves everything as it was.
func TestWriteFails(t *testing.T) {
	dir := folder(t)
	before := snapshot(t, dir)
	err := write(dir, []file{{"a.go", []byte("a")}, {filepath.Join("none", "b.go"), []byte("b")}})
	require.True(t, errors.Is(err, fs.ErrNotExist), "%v", err)
	assert.Equal(t, before, snapshot(t, dir))
}
