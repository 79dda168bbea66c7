package suite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/suite"
)

// TestWatch changes files and waits for the suites that they concern, and no
// others, to be run.
func TestWatch(t *testing.T) {
	folder, aside := t.TempDir(), t.TempDir()
	// A file is replaced in one step, and so changes once.
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(aside, "next")
		if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		write(name+"/suite.yaml", oneOf+aCase)
		write(name+"/pod.yaml", pod)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	runs, ended := make(chan []string), make(chan error, 1)
	go func() {
		ended <- suite.Watch(ctx, []string{folder + "/..."}, func(suites []*suite.Suite, err error) error {
			var names []string
			for _, s := range suites {
				names = append(names, filepath.Base(filepath.Dir(s.Path)))
			}
			if err != nil {
				names = append(names, "error")
			}
			runs <- names
			return nil
		})
	}()
	steps := []struct {
		reason string
		do     func()
		want   []string
	}{
		{"all at first", func() {}, []string{"a", "b"}},
		{"an object of one", func() { write("b/pod.yaml", pod+"# Changed.\n") }, []string{"b"}},
		{"a suite", func() { write("a/suite.yaml", oneOf+aCase+"# Changed.\n") }, []string{"a"}},
		{"a file that was not there", func() { write("a/constraint.yaml", constraint) }, []string{"a"}},
		{"a new folder", func() {
			if err := os.Rename(staged(t, folder), filepath.Join(folder, "c")); err != nil {
				t.Fatal(err)
			}
		}, []string{"c"}},
		{"a broken suite", func() { write("b/suite.yaml", head+"tests: {}\n") }, []string{"error"}},
		{"all, since nobody knows what was broken", func() { write("b/suite.yaml", oneOf+aCase) }, []string{"a", "b", "c"}},
	}
	for _, step := range steps {
		step.do()
		select {
		case got := <-runs:
			if !slices.Equal(got, step.want) {
				t.Fatalf("%s: got %q run, want %q", step.reason, got, step.want)
			}
		case err := <-ended:
			t.Fatalf("%s: it ended: %v", step.reason, err)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want the context's", err)
	}
}

// staged is a folder with a suite, beside the one that is watched.
func staged(t *testing.T, watched string) string {
	t.Helper()
	folder, err := os.MkdirTemp(filepath.Dir(watched), "staged")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "suite.yaml"), []byte(oneOf+aCase), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}
