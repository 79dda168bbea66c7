package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"strings"
)

// machines are the architectures that an image may be for.
var machines = map[string]elf.Machine{
	"amd64":   elf.EM_X86_64,
	"arm64":   elf.EM_AARCH64,
	"ppc64le": elf.EM_PPC64,
	"s390x":   elf.EM_S390,
}

// readBinary reads the binary and makes sure that it can start in an image
// that holds nothing else.
func readBinary(path, arch string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the binary: %w", err)
	}
	if err := checkBinary(content, arch); err != nil {
		return nil, fmt.Errorf("%s cannot run in the image: %w", path, err)
	}
	return content, nil
}

// checkBinary reports a binary of another system or architecture, and one that
// asks for a dynamic loader: the kernel would answer "no such file" to both.
func checkBinary(content []byte, arch string) error {
	machine, ok := machines[arch]
	if !ok {
		return fmt.Errorf("architecture %q is not known", arch)
	}
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("it is not a linux executable, build it with GOOS=linux: %w", err)
	}
	if file.Machine != machine {
		return fmt.Errorf("it is built for %s, build it with GOARCH=%s", strings.TrimPrefix(file.Machine.String(), "EM_"), arch)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("it is linked dynamically, build it with CGO_ENABLED=0")
		}
	}
	return nil
}
