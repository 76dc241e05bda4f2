# Each target says what it is for; CI runs lint, fuzz, qemu and test.
.PHONY: test fuzz bench lint qemu verify clean

test: ## all tests
	go test ./...

FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME, a time or a count (2000x)
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

bench: ## speed here, beside the usual loop with math.Exp
	go test -run '^$$' -bench . .

lint: ## vet and staticcheck
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

qemu: ## tests on emulated CPUs of other architectures (Debian: qemu-user-static)
	GOARCH=arm64 go test -short -exec qemu-aarch64-static .
	GOARCH=s390x go test -short -exec qemu-s390x-static .

verify: ## all that CI does
	bash .ci/run

clean:
	go clean ./...
	rm -f *.prof *.test
