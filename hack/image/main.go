// Image packs the fusegate binary into an OCI image without a container engine,
// as a tarball that "docker load" and "ctr image import" read. The image holds
// the binary and the user it runs as, nothing else: no shell, no package
// manager, nothing to patch but Go and the modules.
//
// The same binary and the same SOURCE_DATE_EPOCH give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if err := run(os.Args[1:], os.LookupEnv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run builds one image as the arguments say and prints where it is.
func run(args []string, env func(string) (string, bool), stdout io.Writer) error {
	var s spec
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	binary := flags.String("binary", "", "the statically linked binary for linux")
	out := flags.String("out", ".", "the folder to write the tarball to")
	flags.StringVar(&s.version, "version", "dev", "the version, which is also the image's tag")
	flags.StringVar(&s.revision, "revision", "", "the commit that the binary was built from")
	flags.StringVar(&s.arch, "arch", "amd64", "the architecture, as GOARCH spells it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *binary == "" || flags.NArg() > 0 {
		return errors.New("give the binary by -binary, and no other arguments")
	}
	created, err := sourceDate(env)
	if err != nil {
		return err
	}
	s.created = created
	if s.binary, err = readBinary(*binary, s.arch); err != nil {
		return err
	}
	return pack(s, *out, stdout)
}

// sourceDate is the time that everything in the image carries:
// SOURCE_DATE_EPOCH, else 1970. See https://reproducible-builds.org/specs/source-date-epoch.
func sourceDate(env func(string) (string, bool)) (time.Time, error) {
	value, ok := env("SOURCE_DATE_EPOCH")
	if !ok || value == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading SOURCE_DATE_EPOCH, which counts seconds since 1970: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// pack builds the image, writes <out>/fusegate-<version>-<arch>.tar, and prints
// its reference, digest and place.
func pack(s spec, out string, stdout io.Writer) error {
	img, err := build(s)
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("hashing the image: %w", err)
	}
	target := filepath.Join(out, fmt.Sprintf("fusegate-%s-%s.tar", s.version, s.arch))
	if err := write(target, s, img); err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	_, err = fmt.Fprintf(stdout, "%s@%s\n%s\n", s.reference(), digest, target)
	return err
}

// write leaves either the whole tarball at the target or nothing.
func write(target string, s spec, img v1.Image) (err error) {
	tag, err := s.tag()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(target), ".image-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	err = errors.Join(tarball.Write(tag, img, file), file.Chmod(0o644), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), target)
}
