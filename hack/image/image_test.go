package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const epoch = 1_750_000_000

// TestImage packs a tiny binary and reads the tarball back as an engine would.
func TestImage(t *testing.T) {
	binary := executable(elf.EM_X86_64, elf.PT_LOAD)
	img := open(t, packed(t, binary, epoch))
	if err := validate.Image(img); err != nil {
		t.Errorf("the image is not valid: %v", err)
	}

	config, err := img.ConfigFile()
	if err != nil {
		t.Fatalf("reading the configuration: %v", err)
	}
	created := time.Unix(epoch, 0).UTC()
	want := v1.Config{
		Entrypoint: []string{"/fusegate"},
		User:       "65532:65532",
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":       "fusegate",
			"org.opencontainers.image.description": "A constraint framework for Kubernetes with safe defaults.",
			"org.opencontainers.image.url":         "https://fusegate.dev",
			"org.opencontainers.image.source":      "https://github.com/fusegate/fusegate",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     "v1.2.3",
			"org.opencontainers.image.revision":    "abc",
			"org.opencontainers.image.created":     created.Format(time.RFC3339),
		},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if got, want := config.OS+"/"+config.Architecture, "linux/amd64"; got != want {
		t.Errorf("platform: got %s, want %s", got, want)
	}
	if !config.Created.Equal(created) {
		t.Errorf("created: got %v, want %v", config.Created, created)
	}
	compareFiles(t, img, created, map[string]entry{
		"etc":        {mode: 0o755},
		"etc/passwd": {mode: 0o644, content: []byte(passwd)},
		"etc/group":  {mode: 0o644, content: []byte(group)},
		"fusegate":   {mode: 0o755, content: binary},
	})
}

// compareFiles compares all that a container of the image would see.
func compareFiles(t *testing.T, img v1.Image, created time.Time, want map[string]entry) {
	t.Helper()
	flat := mutate.Extract(img)
	defer flat.Close()
	got := map[string]entry{}
	for r := tar.NewReader(flat); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("reading the files: %v", err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("reading %s: %v", header.Name, err)
		}
		if header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(created) {
			t.Errorf("%s: got owner %d:%d and time %v, want 0:0 and %v", header.Name, header.Uid, header.Gid, header.ModTime, created)
		}
		got[header.Name] = entry{mode: header.Mode, content: bytes.Clone(content)}
	}
	same := cmp.Comparer(func(a, b entry) bool { return a.mode == b.mode && bytes.Equal(a.content, b.content) })
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestMediaTypes checks that the image is an OCI image, not Docker's.
func TestMediaTypes(t *testing.T) {
	img, err := build(spec{version: "v1.2.3", arch: "amd64", created: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	got := []types.MediaType{manifest.MediaType, manifest.Config.MediaType}
	for _, layer := range manifest.Layers {
		got = append(got, layer.MediaType)
	}
	want := []types.MediaType{types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer, types.OCILayer}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("media types (-want +got):\n%s", diff)
	}
}

// TestReproducible builds twice, and once with another time.
func TestReproducible(t *testing.T) {
	binary := executable(elf.EM_X86_64, elf.PT_LOAD)
	first, second, later := read(t, packed(t, binary, epoch)), read(t, packed(t, binary, epoch)), read(t, packed(t, binary, epoch+1))
	if !bytes.Equal(first, second) {
		t.Error("two builds of the same binary differ")
	}
	if bytes.Equal(first, later) {
		t.Error("SOURCE_DATE_EPOCH makes no difference")
	}
}

func TestSourceDate(t *testing.T) {
	cases := map[string]struct {
		reason string
		value  string
		want   int64
		err    string
	}{
		"Unset":      {reason: "no time is known", want: 0},
		"Set":        {reason: "the build says when", value: "1750000000", want: 1_750_000_000},
		"NotANumber": {reason: "a wrong time must not pass for 1970", value: "today", err: "SOURCE_DATE_EPOCH"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := sourceDate(func(string) (string, bool) { return tc.value, tc.value != "" })
			if !matches(err, tc.err) {
				t.Fatalf("%s: got error %v, want %q", tc.reason, err, tc.err)
			}
			if err == nil && got.Unix() != tc.want {
				t.Errorf("%s: got %d, want %d", tc.reason, got.Unix(), tc.want)
			}
		})
	}
}

func TestRejects(t *testing.T) {
	static := executable(elf.EM_X86_64, elf.PT_LOAD)
	cases := map[string]struct {
		reason string
		args   []string
		binary []byte
		want   string
	}{
		"Dynamic":        {reason: "there is no loader in the image", binary: executable(elf.EM_X86_64, elf.PT_INTERP), want: "CGO_ENABLED=0"},
		"OtherMachine":   {reason: "the label would lie", binary: executable(elf.EM_AARCH64, elf.PT_LOAD), want: "GOARCH=amd64"},
		"NotExecutable":  {reason: "it is for another system", binary: []byte("#!/bin/sh\n"), want: "GOOS=linux"},
		"UnknownMachine": {reason: "nothing is known about it", binary: static, args: []string{"-arch", "mips"}, want: `"mips" is not known`},
		"BadVersion":     {reason: "a tag has no plus sign", binary: static, args: []string{"-version", "v1+dirty"}, want: "cannot be an image's tag"},
		"Argument":       {reason: "a forgotten flag must not be ignored", binary: static, args: []string{"v1"}, want: "no other arguments"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			args := append([]string{"-binary", save(t, tc.binary), "-out", out}, tc.args...)
			err := run(args, noEnv, io.Discard)
			if !matches(err, tc.want) {
				t.Errorf("%s: got error %v, want %q", tc.reason, err, tc.want)
			}
			left, err := os.ReadDir(out)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 0 {
				t.Errorf("%s: files are left behind: %v", tc.reason, left)
			}
		})
	}
}

// TestWriteFails checks that a tarball that cannot be put in place is not left
// beside it.
func TestWriteFails(t *testing.T) {
	out := t.TempDir()
	const occupied = "fusegate-dev-amd64.tar"
	if err := os.Mkdir(filepath.Join(out, occupied), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"-binary", save(t, executable(elf.EM_X86_64, elf.PT_LOAD)), "-out", out}
	if err := run(args, noEnv, io.Discard); !matches(err, occupied) {
		t.Errorf("got error %v, want one about %s", err, occupied)
	}
	left, err := filepath.Glob(filepath.Join(out, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("files are left behind: %v", left)
	}
}

// packed runs the command and returns the place of the tarball.
func packed(t *testing.T, binary []byte, date int) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "dist")
	env := func(key string) (string, bool) { return strconv.Itoa(date), key == "SOURCE_DATE_EPOCH" }
	args := []string{"-binary", save(t, binary), "-out", out, "-version", "v1.2.3", "-revision", "abc", "-arch", "amd64"}
	var stdout strings.Builder
	if err := run(args, env, &stdout); err != nil {
		t.Fatalf("packing: %v", err)
	}
	target := filepath.Join(out, "fusegate-v1.2.3-amd64.tar")
	if got := stdout.String(); !strings.HasPrefix(got, "ghcr.io/fusegate/fusegate:v1.2.3@sha256:") || !strings.Contains(got, target) {
		t.Errorf("printed %q, want the reference, the digest and %s", got, target)
	}
	return target
}

// open reads the image by its reference, as "docker load" would name it.
func open(t *testing.T, path string) v1.Image {
	t.Helper()
	tag, err := name.NewTag("ghcr.io/fusegate/fusegate:v1.2.3", name.StrictValidation)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatalf("reading the tarball back: %v", err)
	}
	return img
}

// executable is the least that passes for a linux executable: an ELF header and
// one program header.
func executable(machine elf.Machine, kind elf.ProgType) []byte {
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var buffer bytes.Buffer
	for _, part := range []any{header, elf.Prog64{Type: uint32(kind)}} {
		if err := binary.Write(&buffer, binary.LittleEndian, part); err != nil {
			panic(err) // Neither has a field of variable size.
		}
	}
	return buffer.Bytes()
}

func save(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fusegate")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func noEnv(string) (string, bool) { return "", false }

// matches reports whether the error says what is wanted; nothing is wanted of nil.
func matches(err error, want string) bool {
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), want)
}
