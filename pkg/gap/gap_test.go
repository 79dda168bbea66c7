package gap_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/gap"
)

func passed(name string) gap.Passed {
	return gap.Passed{Version: "v1", Kind: "Pod", Namespace: "a", Name: name, UID: types.UID("uid-" + name), At: time.Now().Unix()}
}

// TestRecorder: what is recorded can be read from the annotation, whose size is bounded,
// and one source does not push out what came from another.
func TestRecorder(t *testing.T) {
	r := &gap.Recorder{}
	if got, err := gap.Read(r.Annotations()); len(got) != 0 || err != nil {
		t.Errorf("at first: got %v, %v", got, err)
	}
	for i := range 20 {
		r.Record("api-server", passed(fmt.Sprint("honest-", i)))
	}
	long := strings.Repeat("x", 253)
	for i := range 2000 {
		p := passed(fmt.Sprint(i, long)[:253])
		p.Group, p.Version, p.Kind, p.Namespace, p.UID = long[:126], long[:63], long[:63], long[:63], types.UID(long[:63])
		r.Record("forger", p)
	}
	for _, p := range []gap.Passed{{}, passed(""), passed(long + "x"), passed("<b>"), passed("a\u009b"), {Version: "v1", Kind: "Pod", Name: "no-uid"}} {
		r.Record("api-server", p)
	}
	old := passed("old")
	old.At -= 3600
	r.Record("api-server", old)
	annotations := r.Annotations()
	if n := len(annotations[gap.Annotation]); n > 200<<10 || n < 100<<10 {
		t.Errorf("the annotation has %d bytes", n)
	}
	got, err := gap.Read(annotations)
	if err != nil {
		t.Fatal(err)
	}
	honest := 0
	for _, p := range got {
		if strings.HasPrefix(p.Name, "honest-") {
			honest++
		}
		if p.Name == "old" || p.Name == "" || p.UID == "" {
			t.Errorf("got %+v", p)
		}
	}
	if honest != 20 || len(got) > 256 {
		t.Errorf("%d of 20 are left among %d", honest, len(got))
	}
	if _, err := gap.Read(map[string]string{gap.Annotation: "{"}); err == nil {
		t.Error("what is no list is read")
	}
}

// TestNames: what names of objects may hold is recorded as long as people can read it.
func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"web-1": true, "system:reader of things": true, "<zoë & \"co\">": true,
		"": false, "a\u009b": false, "a\u202eb": false, "a\nb": false, "\xff": false,
		strings.Repeat("<", 100): false, strings.Repeat("é", 127): false,
	} {
		r := &gap.Recorder{}
		r.Record("api-server", passed("x"))
		p := passed("x")
		p.Name = name
		r.Record("api-server", p)
		got, err := gap.Read(r.Annotations())
		if err != nil || (len(got) == 2) != want || want && got[1] != p {
			t.Errorf("%q: got %v, %v, want it recorded: %v", name, got, err, want)
		}
	}
}
