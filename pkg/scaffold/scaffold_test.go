package scaffold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/lint"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/scaffold"
	"github.com/fusegate/fusegate/pkg/suite"
)

// TestWrite: what is written passes verify and lint, and is not written over.
func TestWrite(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "owner")
	files, err := scaffold.Write(folder, "RequiredOwner2")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 5 {
		t.Errorf("got %q, want five files", files)
	}
	suites, err := suite.Find(suite.Disk{}, folder)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r, cases := suite.Runner{}, 0
	err = r.Run(t.Context(), suites, func(s *output.Suite) {
		cases += len(s.Tests[0].Cases)
		if s.Outcome() != output.Passed {
			p := output.Printer{Out: &out}
			t.Errorf("the suite does not pass: %v\n%s", p.Suite(s), out.String())
		}
	})
	if err != nil || cases != 2 {
		t.Errorf("got %d cases and error %v, want 2", cases, err)
	}
	found, err := lint.Run(t.Context(), []string{folder}, nil)
	if err != nil || len(found.Templates) != 1 || len(found.Flaws) > 0 {
		t.Errorf("lint: got %v and error %v, want nothing in one template", found, err)
	}
	if err := os.WriteFile(files[0], []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := scaffold.Write(folder, "RequiredOwner"); err == nil || !strings.Contains(err.Error(), "template.yaml is there already") {
		t.Errorf("a second time: got error %v, want that it is there", err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || string(text) != "mine" {
		t.Errorf("it was written over: %q, %v", text, err)
	}
}

func TestKinds(t *testing.T) {
	for _, kind := range []string{"", "owner", "Required-Owner", "Required Owner", "K: v", "K" + strings.Repeat("x", 63)} {
		if _, err := scaffold.Write(t.TempDir(), kind); err == nil || !strings.Contains(err.Error(), "is no kind") {
			t.Errorf("%q: got error %v, want that it is no kind", kind, err)
		}
	}
}
