# Needs Go, make, git and bash; everything else is built from pinned modules.
# GOFLAGS, GOPROXY and their like are taken from the environment as they are.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What a caller may set.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
ARCH ?= $(shell go env GOARCH)
TESTFLAGS ?=
KEEP ?=
# The time stamped on what is released; see https://reproducible-builds.org.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

BIN := bin
DIST := dist
LDFLAGS := -X main.version=$(VERSION)
TEST_TIMEOUT := 25m

# The main module, the modules beside it, and those of them that hold code.
HACK_MODULES := $(patsubst %/go.mod,%,$(wildcard hack/*/go.mod))
MODULES := . $(HACK_MODULES)
CODE_MODULES := . $(filter $(patsubst %/,%,$(sort $(dir $(wildcard hack/*/*.go)))),$(HACK_MODULES))
TESTED_HACK_MODULES := $(filter $(patsubst %/,%,$(sort $(dir $(wildcard hack/*/*_test.go)))),$(HACK_MODULES))

# What the working tree looks like: verify compares it before and after.
TREE := git status --porcelain=v1 --untracked-files=all && git diff HEAD && \
	git ls-files -z --others --exclude-standard | xargs -0 -r git hash-object --

##@ Help

.PHONY: help
help: ## Show this text.
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make <target> [VERSION=v1.2.3] [ARCH=arm64] [KEEP=1] [TESTFLAGS=...]"} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Build

.PHONY: build
build: ## Build bin/fusegate for this machine.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/fusegate ./cmd/fusegate

.PHONY: image
image: ## Pack an OCI image for linux/ARCH into dist/, without a container engine.
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -trimpath -ldflags '-s -w $(LDFLAGS)' \
		-o $(BIN)/linux-$(ARCH)/fusegate ./cmd/fusegate
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) go run -C hack/image . -version '$(VERSION)' -arch $(ARCH) \
		-revision "$$(git rev-parse HEAD 2>/dev/null || true)" \
		-binary $(abspath $(BIN)/linux-$(ARCH)/fusegate) -out $(abspath $(DIST))

.PHONY: manifests
manifests: build ## Render dist/install.yaml.
	@mkdir -p $(DIST)
	$(BIN)/fusegate manifests >$(DIST)/install.yaml.new
	@mv $(DIST)/install.yaml.new $(DIST)/install.yaml

.PHONY: clean
clean: ## Remove what was built here. The control plane's cache stays.
	rm -rf $(BIN) $(DIST)

##@ Try

.PHONY: demo
demo: controlplane ## Run the demo on a control plane of its own; KEEP=1 leaves it running.
	@echo 'demo: building $(BIN)/fusegate; the first time this takes some minutes'
	@$(MAKE) build
	$(BIN)/fusegate demo$(if $(filter-out 0 false no,$(KEEP)), --keep)

.PHONY: bench
bench: ## Compare the engine with the constraint framework's own, on the same reviews.
	go run ./hack/bench

SCALE ?= 10000

.PHONY: bench-audit
bench-audit: controlplane build ## Measure the audit of SCALE Pods on a real API server.
	go run ./hack/bench-audit -binary $(BIN)/fusegate -pods $(SCALE)

##@ Check

.PHONY: presubmit
presubmit: verify test ## All that has to pass before a change is proposed.

.PHONY: controlplane
controlplane: ## Build the API server that tests and demo need; minutes at first, then nothing.
	go run -C hack/controlplane .

.PHONY: test
test: controlplane test-hack ## Run all tests, against a real control plane.
	@start=$$SECONDS; \
	go test -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./... || exit 1; \
	echo "test: passed in $$((SECONDS - start)) s"

.PHONY: test-hack
test-hack: ## Run the tests of the modules in hack.
	@for module in $(TESTED_HACK_MODULES); do \
		go test -C $$module -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./... || exit 1; \
	done

.PHONY: test-race
test-race: controlplane ## Run the main module's tests under the race detector; needs a C compiler.
	CGO_ENABLED=1 go test -race -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./...

.PHONY: verify
verify: ## Generate, then check modules, format, vet, lint and layers; fails if that changes a file.
	@before=$$(mktemp) && after=$$(mktemp) || exit 1; trap 'rm -f "$$before" "$$after"' EXIT; \
	{ $(TREE); } >"$$before" || exit 1; \
	for check in generate check-tidy check-format vet lint check-layers; do \
		start=$$SECONDS; \
		echo "verify: $$check"; \
		$(MAKE) $$check || exit 1; \
		echo "verify: $$check passed in $$((SECONDS - start)) s"; \
	done; \
	{ $(TREE); } >"$$after" || exit 1; \
	if ! diff -u --label before --label after "$$before" "$$after"; then \
		echo "verify: the tree changed, see above: commit what 'make generate' writes" >&2; \
		exit 1; \
	fi

.PHONY: lint
lint: $(BIN)/golangci-lint ## Lint all modules.
	@for module in $(CODE_MODULES); do \
		(cd $$module && $(abspath $<) run --config $(abspath .golangci.yml) ./...) || exit 1; \
	done

.PHONY: format
format: $(BIN)/golangci-lint ## Format all modules, imports included.
	@for module in $(CODE_MODULES); do \
		(cd $$module && $(abspath $<) fmt --config $(abspath .golangci.yml) ./...) || exit 1; \
	done

.PHONY: vet
vet: ## Vet all modules.
	@for module in $(CODE_MODULES); do go vet -C $$module ./... || exit 1; done

.PHONY: check-tidy
check-tidy: ## Check that go.mod and go.sum of all modules are tidy.
	@for module in $(MODULES); do \
		go mod tidy -C $$module -diff || { echo "$$module is not tidy: run 'go mod tidy' there" >&2; exit 1; }; \
	done

.PHONY: check-format
check-format: ## Check that every Go file is formatted.
	@unformatted=$$("$$(go env GOROOT)/bin/gofmt" -l $(wildcard apis cmd hack manifests pkg templates)); \
	if [[ -n "$$unformatted" ]]; then \
		printf 'not formatted, run make format:\n%s\n' "$$unformatted" >&2; \
		exit 1; \
	fi

.PHONY: check-layers
check-layers: ## Check that packages import only what their layer may.
	go test -count=1 ./pkg

##@ Generate

.PHONY: generate
generate: $(if $(wildcard apis/*/*.go),$(BIN)/controller-gen) ## Write the deep-copy methods of the API types.
	$(if $(wildcard apis/*/*.go),$(BIN)/controller-gen object paths=./apis/...,@echo 'no API types yet')

# Tools are pinned by hack/tools/go.mod and rebuilt when it changes.
$(BIN)/controller-gen: TOOL := sigs.k8s.io/controller-tools/cmd/controller-gen
$(BIN)/golangci-lint: TOOL := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(BIN)/benchstat: TOOL := golang.org/x/perf/cmd/benchstat
$(BIN)/controller-gen $(BIN)/golangci-lint $(BIN)/benchstat: hack/tools/go.mod hack/tools/go.sum
	go build -C hack/tools -o $(abspath $@) $(TOOL)
	@touch $@
