package main

import "golang.org/x/sys/cpu"

// features names the CPU features that kernels can be made for, as far as this machine has them.
func features() (names []string) {
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"avx2", cpu.X86.HasAVX2}, {"fma", cpu.X86.HasFMA}, {"avx512f", cpu.X86.HasAVX512F}, {"avx512dq", cpu.X86.HasAVX512DQ},
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
