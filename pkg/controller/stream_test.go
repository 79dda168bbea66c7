package controller

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	addedEvent  = `{"type":"ADDED","object":{"apiVersion":"a/v1","kind":"A","metadata":{"name":"one","generation":2}}}`
	markedEvent = `{"type":"BOOKMARK","object":{"apiVersion":"a/v1","kind":"A","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}`
	goneEvent   = `{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","code":410}}`
)

func TestFrames(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		body   string
		want   []string
		err    error // nil for any but the ends of a stream
	}{
		"Lines":      {"an API server sends a line for each", addedEvent + "\n" + markedEvent + "\n", []string{"ADDED one", "BOOKMARK 9"}, io.EOF},
		"Together":   {"nothing needs to be between them", addedEvent + markedEvent + goneEvent, []string{"ADDED one", "BOOKMARK 9", "ERROR 410"}, io.EOF},
		"Spread":     {"lines mean nothing", strings.ReplaceAll(addedEvent, ":", ":\n"), []string{"ADDED one"}, io.EOF},
		"Long":       {"one event takes many reads", strings.Replace(addedEvent, `"a/v1"`, `"`+strings.Repeat("a", 5000)+`/v1"`, 1) + markedEvent, []string{"ADDED one", "BOOKMARK 9"}, io.EOF},
		"Nothing":    {"a watch may end without an event", "", nil, io.EOF},
		"Cut":        {"the end is in the midst of an event", addedEvent + "\n" + markedEvent[:40], []string{"ADDED one"}, io.ErrUnexpectedEOF},
		"NoJSON":     {"somebody else has answered", "<html>", nil, nil},
		"NoObject":   {"an event without an object", `{"type":"ADDED"}`, nil, nil},
		"NotAnEvent": {"an event is an object", `[1]`, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for how, body := range map[string]io.Reader{"whole": strings.NewReader(tc.body), "by bytes": iotest.OneByteReader(strings.NewReader(tc.body))} {
				got, err := decodeAll(&frames{body: io.NopCloser(body)})
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s, -want +got:\n%s", how, diff)
				}
				if tc.err != nil && !errors.Is(err, tc.err) || tc.err == nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
					t.Errorf("%s: got error %v, want %v: %s", how, err, tc.err, tc.reason)
				}
			}
		})
	}
}

func decodeAll(f *frames) (got []string, err error) {
	for {
		typ, obj, err := f.Decode()
		if err != nil {
			return got, err
		}
		u := obj.(*unstructured.Unstructured)
		what := u.GetName() + u.GetResourceVersion()
		var status apierrors.APIStatus
		if errors.As(apierrors.FromObject(obj), &status) && status.Status().Code != 0 {
			what = "410"
		}
		got = append(got, string(typ)+" "+what)
	}
}
