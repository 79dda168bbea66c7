package catalog_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/fusegate/fusegate/pkg/catalog"
)

// list is what an API server says at /apis of a group that serves a kind, beside
// another; at /api it serves nothing.
const list = `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[
	{"metadata":{"name":"beside.com"},"versions":[{"version":"v1","freshness":"Current","resources":[{"resource":"others",
	"responseKind":{"group":"beside.com","version":"v1","kind":"Beside"},"scope":"Cluster","verbs":["list"]}]}]},
	{"metadata":{"name":"example.com"},
	"versions":[{"version":"v1","freshness":%q,"resources":[{"resource":"things","responseKind":{"group":"example.com","version":"v1","kind":%q},
	"scope":"Cluster","verbs":["list"]}]}]}]}`

const empty = `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[]}`

// server answers discovery with the tag and the kind that it has at the time.
type server struct {
	kind, freshness, tag string
	fails                bool
	bodies               int
	// asked counts the questions for one version, of which /apis tells the kinds of
	// its list; there is none that it does not list.
	asked int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.fails {
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	if r.URL.Path != "/api" && r.URL.Path != "/apis" {
		s.asked++
		http.NotFound(w, r)
		return
	}
	tag, body := `"nothing"`, empty
	if r.URL.Path == "/apis" {
		tag, body = s.tag, fmt.Sprintf(list, s.freshness, s.kind)
	}
	if tag != "" {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.bodies++
	w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	_, _ = fmt.Fprint(w, body)
}

// TestCatalog looks twice, with a change of the API server between.
func TestCatalog(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		tag    string
		change func(s *server)
		bodies int // of the second look
		kind   string
		same   bool // values as of the first look
		fails  bool
	}{
		"Nothing":  {reason: "what has not changed is not sent again", tag: `"1"`, change: func(*server) {}, kind: "Thing", same: true},
		"Changed":  {reason: "what has changed is", tag: `"1"`, change: func(s *server) { s.kind, s.tag = "Other", `"2"` }, bodies: 3, kind: "Other"},
		"Untagged": {reason: "an API server that does not tag is asked in full", change: func(s *server) { s.kind = "Other" }, bodies: 2, kind: "Other"},
		"EmptyTag": {reason: "an empty tag is none", tag: `""`, change: func(s *server) { s.kind = "Other" }, bodies: 2, kind: "Other"},
		"WeakTag":  {reason: "a weak tag is none", tag: `W/"1"`, change: func(s *server) { s.kind = "Other" }, bodies: 2, kind: "Other"},
		"Failing":  {reason: "an API server that cannot say is no proof", tag: `"1"`, change: func(s *server) { s.fails = true }, fails: true},
		"Stale": {
			reason: "a group that fails is told of", tag: `"1"`,
			change: func(s *server) { s.freshness, s.tag = "Stale", `"2"` }, fails: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{kind: "Thing", freshness: "Current", tag: tc.tag}
			backend := httptest.NewServer(s)
			defer backend.Close()
			c, err := catalog.New(&rest.Config{Host: backend.URL})
			if err != nil {
				t.Fatal(err)
			}
			first := look(t, c)
			tc.change(s)
			s.bodies = 0
			_, second, err := c.ServerGroupsAndResources()
			if tc.fails {
				if err == nil {
					t.Errorf("%s: got no error", tc.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			now := example(second)
			if got := now.APIResources[0].Kind; got != tc.kind || s.bodies != tc.bodies || (first == now) != tc.same {
				t.Errorf("%s: got kind %s by %d answers with a body, the same: %t; want %s by %d, %t", tc.reason, got, s.bodies, first == now, tc.kind, tc.bodies, tc.same)
			}
		})
	}
}

// example is the list of the group that changes.
func example(lists []*metav1.APIResourceList) *metav1.APIResourceList {
	at := slices.IndexFunc(lists, func(l *metav1.APIResourceList) bool { return l.GroupVersion == "example.com/v1" })
	if at < 0 {
		return nil
	}
	return lists[at]
}

func look(t *testing.T, c *catalog.Catalog) *metav1.APIResourceList {
	t.Helper()
	_, lists, err := c.ServerGroupsAndResources()
	all := example(lists)
	if err != nil || all == nil {
		t.Fatalf("got %v (%v), want one list", lists, err)
	}
	lists, err = c.ServerPreferredResources()
	preferred := example(lists)
	if err != nil || preferred == nil || preferred.APIResources[0].Kind != all.APIResources[0].Kind {
		t.Fatalf("got %v (%v), want what %v has", lists, err, all)
	}
	return all
}

// TestVersion asks for one version: by what is known of all, and of the API server
// itself where that does not settle it.
func TestVersion(t *testing.T) {
	s := &server{kind: "Thing", freshness: "Current", tag: `"1"`}
	backend := httptest.NewServer(s)
	defer backend.Close()
	c, err := catalog.New(&rest.Config{Host: backend.URL})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		list, err := c.ServerResourcesForGroupVersion("example.com/v1")
		if err != nil || list.APIResources[0].Kind != "Thing" || s.asked != 0 || s.bodies != 2 {
			t.Fatalf("a version that is known: got %v (%v) by %d questions and %d bodies, want Thing by none and 2", list, err, s.asked, s.bodies)
		}
	}
	if _, err := c.ServerResourcesForGroupVersion("example.com/v2"); !apierrors.IsNotFound(err) || s.asked != 1 {
		t.Errorf("a version that is not there: got error %v by %d questions, want not found by one", err, s.asked)
	}
	s.freshness, s.tag = "Stale", `"2"`
	if list, err := c.ServerResourcesForGroupVersion("example.com/v1"); err == nil || s.asked != 2 {
		t.Errorf("a version that is stale: got %v by %d questions, want what the API server itself says", list, s.asked)
	}
	if _, err := c.ServerResourcesForGroupVersion("beside.com/v1"); err != nil || s.asked != 2 {
		t.Errorf("a version beside one that is stale: got error %v by %d questions, want none by 2", err, s.asked)
	}
	s.fails = true
	if list, err := c.ServerResourcesForGroupVersion("beside.com/v1"); err == nil {
		t.Errorf("no answer: got %v, want an error", list)
	}
}
