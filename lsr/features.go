package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/cpu"
)

// features names the CPU features that kernels ask for, or might, as far as this machine has them.
func features() (names []string) {
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"avx2", cpu.X86.HasAVX2}, {"fma", cpu.X86.HasFMA}, {"f16c", cpu.X86.HasF16C}, {"avx512f", cpu.X86.HasAVX512F}, {"avx512dq", cpu.X86.HasAVX512DQ},
		{"avx512bw", cpu.X86.HasAVX512BW}, {"avx512vl", cpu.X86.HasAVX512VL}, {"asimd", cpu.ARM64.HasASIMD}, {"vx", cpu.S390X.HasVX},
	} {
		if f.has {
			names = append(names, f.name)
		}
	}
	if names == nil {
		names = []string{"none"}
	}
	return names
}

// model names the CPU, as far as Linux tells; or else the architecture, and its features.
func model() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	first, _, _ := strings.Cut(string(text), "\n\n")
	values := map[string]string{}
	for line := range strings.Lines(first) {
		name, value, _ := strings.Cut(line, ":")
		values[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	name, family := values["model name"], values["cpu family"]
	switch {
	case name == "":
		return fmt.Sprintf("%s (%s)", runtime.GOARCH, strings.Join(features(), " "))
	case family == "":
		return name
	}
	return fmt.Sprintf("%s (family %s, model %s)", name, family, values["model"])
}
