# Each target says what it is for. CI (.ci/run) runs them on a clean checkout.
QEMU = qemu-haswell qemu-nehalem qemu-arm64 qemu-s390x qemu-ppc64le qemu-riscv64 qemu-loong64

.PHONY: generate test test-all fuzz bench bench-peers lint classes qemu $(QEMU) bochs builds mutate verify clean

GENERATED = lsr_amd64.s lsr_amd64.go zlsr_args.go zlsr_kernels_amd64.go zlsr_kernels_other.go

generate: ## the kernels and the Go around them, made anew
	rm -f $(GENERATED)
	go run ./gen

test: ## all tests
	go test ./...

test-all: classes ## what takes longer: every float32, all awkward class counts in a user's module, a minute of 64 goroutines
	LSR_EXHAUSTIVE=1 go test -run Exp .
	LSR_SOAK=1m go test -run Concurren .
	LSR_SOAK=1m go test -race -run Concurren .

classes: ## all awkward class counts in a user's module
	LSR_ALL_CLASSES=1 go test -timeout 20m -run Module ./gen

FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME, a time or a count (2000x)
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

bench: ## speed here, with each kernel
	go test -run '^$$' -bench . .

bench-peers: ## speed beside PyTorch and others, in one interleaved run (installs Debian's python3-torch)
	cd bench && go run .

lint: ## vet and staticcheck
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

# What fixes the bits, and is quick enough under emulation.
BITS = Wanted|Golden|Value|FMA|Half
qemu: $(QEMU) ## the same bits on emulated CPUs of other kinds (Debian: qemu-user-static)
qemu-haswell:
	LSR_WANT=avx2 go test -short -exec 'qemu-x86_64-static -cpu Haswell' -run '$(BITS)|Kernels/float|EveryPlace' .
qemu-nehalem:
	LSR_WANT=go go test -short -exec 'qemu-x86_64-static -cpu Nehalem' -run '$(BITS)' .
qemu-arm64:
	GOARCH=arm64 go test -short -exec qemu-aarch64-static -run '$(BITS)' .
	GOARCH=arm64 go run -exec qemu-aarch64-static ./gen --check # the generator makes the same files there
qemu-s390x qemu-ppc64le qemu-riscv64: qemu-%:
	GOARCH=$* go test -short -exec qemu-$*-static -run '$(BITS)' .
qemu-loong64:
	GOARCH=loong64 go test -short -exec qemu-loongarch64-static -run '$(BITS)' .

# A part, since Bochs takes some 100 times as long as this CPU; and without float16, of which Bochs rounds ties up and not to even.
bochs: ## the same bits on an emulated CPU with AVX-512, which qemu has not (Debian: see .ci/bochs)
	CGO_ENABLED=0 LSR_WANT=avx512 go test -short -count=1 -timeout 30m -exec "bash $(CURDIR)/.ci/bochs" -run 'Wanted|Golden/^(float32|float64|bfloat16)$$|^TestKernels/float32|KernelsSkip|PairKernels' .

builds: ## the same bits in other builds, and with features of this CPU turned off
	LSR_WANT=go go test -short -tags purego -run '$(BITS)' .
	LSR_WANT=go GODEBUG=cpu.avx2=off go test -short -run '$(BITS)' .
	GODEBUG=cpu.avx512f=off go test -short -run '$(BITS)|Kernel' .
	GOAMD64=v3 go test -short -run '$(BITS)|Kernel' .
	GOARCH=386 go test -short -run '$(BITS)' . && GOARCH=386 go vet ./...
	go test -short -gcflags=all=-d=checkptr -run '$(BITS)|Kernel|Invariants' .
	go test -short -race -run '$(BITS)|Race|Concurren|Invariants|PlaneKernels' .

MUTANTS ?= 300
mutate: ## mutants of the assembly that the tests have to catch
	go run ./internal/mutate -n $(MUTANTS)

verify: ## all that CI does
	bash .ci/run

clean:
	go clean ./...
	rm -f *.prof *.test
