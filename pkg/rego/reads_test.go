package rego

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/templates"
)

// TestLibraryReads: these templates of the library read nothing that only a
// request has. The others ask what an update has changed, by the operation and
// the old object, some of them by functions that take the whole review; labels
// that are immutable may be changed by some users.
func TestLibraryReads(t *testing.T) {
	none := []string{
		"disallowednamespaces", "requiredannotations", "rolebindingsubjects", "wildcardroles",
	}
	folders, err := fs.ReadDir(templates.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		_, template := libraryTemplate(t, f.Name())
		p, err := compile(t.Context(), template)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"oldObject", "operation"}
		switch {
		case slices.Contains(none, f.Name()):
			want = nil
		case f.Name() == "immutablelabels":
			want = append(want, "userInfo")
		}
		if diff := cmp.Diff(want, p.Reads().Request); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name(), diff)
		}
	}
}
