package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	repository = "ghcr.io/fusegate/fusegate"
	entrypoint = "/fusegate"

	// user is the one that distroless images call nonroot. It is numeric, since
	// the kubelet cannot check runAsNonRoot against a name.
	user = "65532:65532"
)

// The files that give the user a name. None can log in.
const (
	passwd = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	group  = "root:x:0:\nnonroot:x:65532:\n"
)

// spec is all that an image depends on.
type spec struct {
	binary   []byte
	version  string
	revision string // May be empty.
	arch     string // As GOARCH spells it.
	created  time.Time
}

func (s spec) reference() string { return repository + ":" + s.version }

func (s spec) tag() (name.Tag, error) {
	tag, err := name.NewTag(s.reference(), name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("version %q cannot be an image's tag: %w", s.version, err)
	}
	return tag, nil
}

// build makes the image: a layer for the user, which never changes, and one for
// the binary.
func build(s spec) (v1.Image, error) {
	users := []entry{{name: "etc/", mode: 0o755}, {name: "etc/passwd", mode: 0o644, content: []byte(passwd)}, {name: "etc/group", mode: 0o644, content: []byte(group)}}
	binary := []entry{{name: entrypoint[1:], mode: 0o755, content: s.binary}}

	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, content := range []struct {
		comment string
		entries []entry
	}{{"the user", users}, {"the binary", binary}} {
		layer, err := newLayer(content.entries, s.created)
		if err != nil {
			return nil, fmt.Errorf("making the layer of %s: %w", content.comment, err)
		}
		history := v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "fusegate hack/image", Comment: content.comment}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history, MediaType: types.OCILayer})
		if err != nil {
			return nil, fmt.Errorf("adding the layer of %s: %w", content.comment, err)
		}
	}
	return configure(img, s)
}

// configure says how the image runs and what it is.
func configure(img v1.Image, s spec) (v1.Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS = "linux"
	config.Architecture = s.arch
	config.Created = v1.Time{Time: s.created}
	config.Config = v1.Config{
		Entrypoint: []string{entrypoint},
		User:       user,
		WorkingDir: "/",
		Labels:     labels(s),
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("setting the image's configuration: %w", err)
	}
	return img, nil
}

// labels are the annotations of the OCI image specification that apply.
// See https://specs.opencontainers.org/image-spec/annotations.
func labels(s spec) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.title":       "fusegate",
		"org.opencontainers.image.description": "A constraint framework for Kubernetes with safe defaults.",
		"org.opencontainers.image.url":         "https://fusegate.dev",
		"org.opencontainers.image.source":      "https://github.com/fusegate/fusegate",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.created":     s.created.Format(time.RFC3339),
	}
	if s.revision != "" {
		all["org.opencontainers.image.revision"] = s.revision
	}
	return all
}

// entry is a file in a layer, or a folder if its name ends in a slash.
type entry struct {
	name    string
	mode    int64
	content []byte
}

func newLayer(entries []entry, created time.Time) (v1.Layer, error) {
	content, err := archive(entries, created)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// archive writes the entries as root's, and nothing of the machine it runs on.
func archive(entries []entry, created time.Time) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: created, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
