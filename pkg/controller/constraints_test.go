package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// line is a connection to the API server that can be cut.
type line struct {
	next http.RoundTripper

	mu      sync.Mutex
	open    []*io.PipeWriter
	refuses bool // every request
	expired int  // how many watches that go on from a version are too late
}

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses {
		return nil, errors.New("the line is cut")
	}
	watch := strings.Contains(r.URL.RawQuery, "watch=true")
	if watch && l.expired > 0 && !strings.Contains(r.URL.RawQuery, "sendInitialEvents") {
		l.expired--
		body := `{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","code":410}}`
		return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	resp, err := l.next.RoundTrip(r)
	if err != nil || !watch {
		return resp, err
	}
	here, there := io.Pipe()
	body := resp.Body
	go func() { // ends with the body, which who asked closes
		_, err := io.Copy(there, body)
		there.CloseWithError(err)
	}()
	resp.Body = both{here, body}
	l.open = append(l.open, there)
	return resp, nil
}

type both struct {
	*io.PipeReader
	body io.Closer
}

func (b both) Close() error { return errors.Join(b.PipeReader.Close(), b.body.Close()) }

// cut ends all watches by err, io.EOF if it is nil, and refuses all requests.
func (l *line) cut(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuses = true
	for _, w := range l.open {
		w.CloseWithError(err)
	}
	l.open = nil
}

// mend lets requests through again, but of watches that go on so many are too
// late.
func (l *line) mend(expired int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuses, l.expired = false, expired
}

// names are those that were told.
type names struct {
	mu  sync.Mutex
	all map[string]bool
}

func (n *names) tell(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[name] = true
}

func (n *names) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := slices.Sorted(maps.Keys(n.all))
	clear(n.all)
	return out
}

// cuttable returns Constraints whose requests go by the line.
func cuttable(t *testing.T) (*Constraints, *line) {
	t.Helper()
	cfg, _ := admin(t)
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := &line{next: transport}
	c, err := NewConstraints(ConstraintsOptions{Config: cfg, HTTP: &http.Client{Transport: l}, Packed: true, Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c, l
}

// define makes a kind of constraint, until the test ends.
func define(t *testing.T, c client.Client, kind string) {
	t.Helper()
	removeTemplate(t, c, kind)
	if err := c.Create(t.Context(), bareCRD(strings.ToLower(kind), kind)); err != nil {
		t.Fatal(err)
	}
}

// TestConstraintsMissNothing has constraints come, change and go while nobody is
// told, and the watch end in all the ways there are.
func TestConstraintsMissNothing(t *testing.T) {
	_, admin := admin(t)
	define(t, admin, "CutKind")
	for i, tc := range []struct {
		name    string
		end     error
		expired int
	}{{"Ended", nil, 0}, {"Broken", errors.New("broken"), 0}, {"TooLate", nil, 1}, {"TooLateAgain", io.ErrUnexpectedEOF, 2}} {
		t.Run(tc.name, func(t *testing.T) {
			c, line := cuttable(t)
			told := &names{all: map[string]bool{}}
			c.follow("CutKind", told.tell)
			gone, changed, come := fmt.Sprint("gone", i), fmt.Sprint("changed", i), fmt.Sprint("come", i)
			apply(t, admin, constraint("CutKind", gone, "1"))
			apply(t, admin, constraint("CutKind", changed, "1"))
			awaitHeld(t, c, changed, "1")
			awaitHeld(t, c, gone, "1")
			line.cut(tc.end)
			told.take()

			if err := admin.Delete(t.Context(), constraint("CutKind", gone, "")); err != nil {
				t.Fatal(err)
			}
			patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"parameters":{"text":"2"}}}`))
			if err := admin.Patch(t.Context(), constraint("CutKind", changed, ""), patch); err != nil {
				t.Fatal(err)
			}
			apply(t, admin, constraint("CutKind", come, "3"))
			if _, err := c.Get("CutKind", gone); err != nil {
				t.Errorf("what was known is not known any more: %v", err)
			}

			line.mend(tc.expired)
			awaitHeld(t, c, changed, "2")
			awaitHeld(t, c, come, "3")
			awaitHeld(t, c, gone, "")
			var got []string
			await(t, "all to be told of", func() error {
				got = append(got, told.take()...)
				if want := []string{changed, come, gone}; !subset(want, got) {
					return fmt.Errorf("told of %q, want all of %q", got, want)
				}
				return nil
			})
			c.unfollow("CutKind")
			if c.synced("CutKind") || len(c.names("CutKind")) > 0 {
				t.Error("what is not followed any more is still known")
			}
		})
	}
}

// TestConstraintsTogether has many constraints, of many sizes, arrive at once:
// each of them is a part of one answer, which is read in pieces.
func TestConstraintsTogether(t *testing.T) {
	_, admin := admin(t)
	define(t, admin, "CutKind")
	var want []string
	for i := range 60 {
		name, text := fmt.Sprintf("c%02d", i), strings.Repeat("x", (i%7)*(i%7)*600)
		apply(t, admin, constraint("CutKind", name, text))
		want = append(want, name)
	}
	for range 5 {
		c, _ := cuttable(t)
		told := &names{all: map[string]bool{}}
		c.follow("CutKind", told.tell)
		await(t, "all constraints to be known", func() error {
			if !c.synced("CutKind") {
				return errors.New("not all have come")
			}
			if got := slices.Sorted(slices.Values(c.names("CutKind"))); !slices.Equal(got, want) {
				t.Errorf("known are %q, want %q", got, want)
			}
			return nil
		})
		var got []string
		await(t, "all to be told of", func() error {
			if got = append(got, told.take()...); !subset(want, got) {
				return fmt.Errorf("told of %q, want %q", got, want)
			}
			return nil
		})
	}
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// awaitHeld waits until the text of a constraint is as given, empty for one that
// is not there.
func awaitHeld(t *testing.T, c *Constraints, name, text string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to be %q", name, text), func() error {
		u, err := c.Get("CutKind", name)
		if apierrors.IsNotFound(err) && text == "" {
			return nil
		}
		if err != nil {
			return err
		}
		fields, _ := u.Object["spec"].(map[string]any)
		if got := fmt.Sprint(fields["parameters"]); text == "" || !strings.Contains(got, "text:"+text) {
			return fmt.Errorf("it is there, with %s", got)
		}
		return nil
	})
}

// TestConstraintsHeard asks what is logged of requests that fail one after the
// other.
func TestConstraintsHeard(t *testing.T) {
	missing := apierrors.NewNotFound(schema.GroupResource{}, "x")
	for name, tc := range map[string]struct {
		reason string
		errs   []error
		ended  bool
		want   []string
	}{
		"Series": {"the first of a series is logged", []error{errors.New("a"), errors.New("b"), nil, nil, errors.New("c")},
			false, []string{"not read", "read again", "not read"}},
		"Missing": {"a kind may be served later", []error{missing, missing, nil}, false, []string{"not served", "read again"}},
		"Expired": {"what is read anew is no failure", []error{apierrors.NewResourceExpired("x")}, false, nil},
		"End":     {"who is told to stop has not failed", []error{errors.New("a")}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			c := &Constraints{log: funcr.New(func(_, line string) { got = append(got, line) }, funcr.Options{})}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tc.ended {
				cancel()
			}
			failing := false
			for _, err := range tc.errs {
				failing = c.heard(ctx, "Kind", failing, err)
			}
			if !slices.EqualFunc(got, tc.want, strings.Contains) {
				t.Errorf("logged %q, want %q: %s", got, tc.want, tc.reason)
			}
		})
	}
}
