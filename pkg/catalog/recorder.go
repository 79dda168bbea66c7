package catalog

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// tag is by what the API server knows an answer again.
type tag struct{ uri, accept, etag string }

// requests are those that one answer was made of.
type requests struct {
	mu        sync.Mutex
	recording bool
	untagged  bool
	tags      []tag
}

func (r *requests) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recording, r.untagged, r.tags = true, false, nil
}

// end returns the tags of all answers, none if one of them had none.
func (r *requests) end() []tag {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recording = false
	if r.untagged {
		return nil
	}
	return r.tags
}

// note takes over the tag of an answer. Only strong ones are known again, and an
// empty one would be at all times
// (k8s.io/apiserver pkg/endpoints/discovery/aggregated/etag.go).
func (r *requests) note(req *http.Request, resp *http.Response) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.recording {
		return
	}
	now := tag{uri: req.URL.RequestURI(), accept: req.Header.Get("Accept")}
	if resp != nil && resp.StatusCode == http.StatusOK {
		now.etag = resp.Header.Get("ETag")
	}
	if len(now.etag) <= len(`""`) || !strings.HasPrefix(now.etag, `"`) {
		r.untagged = true
		return
	}
	r.tags = slices.DeleteFunc(r.tags, func(t tag) bool { return t.uri == now.uri })
	r.tags = append(r.tags, now)
}

// recorder passes requests on and records them.
type recorder struct {
	to   *requests
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	r.to.note(req, resp)
	return resp, err
}
