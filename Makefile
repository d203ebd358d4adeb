# make without a target lists the targets.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 60s

.DEFAULT_GOAL := help
.PHONY: help build demo test race lab-test bench fuzz lint vuln cross ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/dweb, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/dweb ./cmd/dweb

demo: ## two devices share files over ten real nodes on this machine; FILES="a.jpg b.mp4" takes yours
	$(GO) run ./interop/demo $(FILES)

test: ## all tests that need nothing but Go
	$(GO) test ./...

race: ## the same under the race detector, which needs a C compiler
	CGO_ENABLED=1 $(GO) test -race ./...

lab-test: ## the tests on real nodes (Linux; interop/lab/README.md says what they need)
	interop/lab/lab.sh check
	DWEB_LAB=1 $(GO) test -count=1 -timeout 25m -p 1 -run '^TestLab' \
		$$(grep -rl --include='*_test.go' '^func TestLab' . | xargs -n1 dirname | sort -u)

bench: ## figures as JSON lines; ONLY=name runs one
	$(GO) run ./interop/bench $(ONLY)

fuzz: ## every fuzz target for FUZZTIME each, 60s unless told
	.ci/fuzz $(FUZZTIME)

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	"$$(.ci/tool staticcheck)" ./...

vuln: ## known vulnerabilities of what we use, where the data base is reachable
	.ci/vuln

cross: ## compile for the other systems that the product runs on
	for target in linux/arm64 android/arm64 darwin/arm64 windows/amd64; do \
		CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) build $$($(GO) list ./... | grep -v /interop/) || { echo "does not build for $$target"; exit 1; }; \
	done

ci: ## everything that has to pass before a change lands
	.ci/run
