package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

const (
	// buffered is how many events may wait: beyond, the connection does.
	buffered = 100
	// watchFor is how long a watch lasts at least before it is made anew.
	watchFor = 5 * time.Minute
	// leastPage is how many objects are asked for at a time where a page takes
	// longer than the API server gives it.
	leastPage = 8
	// listBuffer and watchBuffer are how much is read at a time.
	listBuffer, watchBuffer = 32 << 10, 4 << 10
)

// holding is the kind of an event that a watch has lasted for more than a moment.
const holding watch.EventType = "HOLDING"

// event is a change of an object, a bookmark, that a watch holds, or the end of
// one that cannot be resumed.
type event struct {
	kind     watch.EventType
	object   *unstructured.Unstructured
	version  uint64
	received time.Time
	err      error
}

// The verbs of requests, as metrics tell them.
const (
	verbList     = "list"
	verbWatch    = "watch"
	verbDiscover = "discover"
	verbReview   = "review"
)

// failure is a request that failed.
type failure struct {
	verb, of string
	err      error
	// cut tells that the answer broke off.
	cut bool
}

func (f *failure) Error() string { return fmt.Sprintf("%sing %s: %v", f.verb, f.of, f.err) }

func (f *failure) Unwrap() error { return f.err }

// source reads the objects of one kind.
type source struct {
	a        *Auditor
	resource resource
}

// erred counts an error.
func (s source) erred(err error) {
	verb := verbWatch
	if f := (*failure)(nil); errors.As(err, &f) {
		verb = f.verb
	}
	s.a.metrics.errors.WithLabelValues(s.resource.gvk.Group, s.resource.gvk.Kind, verb).Inc()
}

func (s source) failure(verb string, err error) *failure {
	return &failure{verb: verb, of: s.resource.gvr.GroupResource().String(), err: err}
}

// request is one for the objects, of a namespace if one is given.
func (s source) request(verb, namespace string) *rest.Request {
	s.a.metrics.requests.WithLabelValues(verb).Inc()
	path := []string{"/apis", s.resource.gvr.Group, s.resource.gvr.Version}
	if s.resource.gvr.Group == "" {
		path = []string{"/api", s.resource.gvr.Version}
	}
	if namespace != "" {
		path = append(path, "namespaces", namespace)
	}
	return s.a.client.Get().AbsPath(append(path, s.resource.gvr.Resource)...)
}

// reader takes what is listed.
type reader struct {
	// began is called with the version as of which the list is, before its
	// second page.
	began func(version string)
	// each is given every object, as JSON that is good until it returns. Some
	// may come twice.
	each func(object []byte) error
	// page is called after every page, with the number of its objects.
	page func(n int64)
}

// list reads all objects, of a namespace if one is given, as of now. A token
// that has run out is replaced by the one that the API server offers instead:
// the rest of the list is then newer than its beginning (ragged), which a watch
// makes up for. A page that breaks off is asked for again, in smaller ones.
func (s source) list(ctx context.Context, namespace string, to reader) (ragged bool, err error) {
	began, offered, limit := false, false, s.a.o.PageSize
	for token := ""; ; {
		n, head, err := s.page(ctx, namespace, token, limit, to.each)
		f := (*failure)(nil)
		switch other := offeredToken(err); {
		case err == nil:
		case errors.As(err, &f) && f.cut && limit > leastPage && ctx.Err() == nil:
			limit /= 4
			continue
		case token != "" && other != "" && !offered:
			token, offered, ragged = other, true, true
			continue
		default:
			return ragged, err
		}
		offered = false
		if !began {
			began = true
			to.began(head.ResourceVersion)
		}
		to.page(n)
		if token = head.Continue; token == "" {
			return ragged, nil
		}
	}
}

// page lists a page and returns how many objects were in it.
func (s source) page(ctx context.Context, namespace, token string, limit int, each func([]byte) error) (n int64, head metav1.ListMeta, err error) {
	req := s.request(verbList, namespace).Param("limit", strconv.Itoa(limit))
	if token != "" {
		req = req.Param("continue", token)
	}
	body, err := req.Stream(ctx)
	if err != nil {
		return 0, head, s.failure(verbList, err)
	}
	defer body.Close()
	members := map[string]any{}
	err = newDocuments(body, listBuffer).listed(members, func(text []byte) error {
		n++
		return each(text)
	})
	if err != nil {
		f := s.failure(verbList, err)
		f.cut = true
		return 0, head, f
	}
	metadata, ok := members["metadata"].(map[string]any)
	if !ok {
		return 0, head, s.failure(verbList, errNotJSON)
	}
	head.ResourceVersion, _ = metadata["resourceVersion"].(string)
	head.Continue, _ = metadata["continue"].(string)
	_, _ = io.Copy(io.Discard, body) // or else the connection may be given up
	return n, head, nil
}

func offeredToken(err error) string {
	if status := apierrors.APIStatus(nil); apierrors.IsResourceExpired(err) && errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

// object decodes an object of the kind. Lists leave its kind out.
func (s source) object(text []byte) (*unstructured.Unstructured, error) {
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	return s.named(v)
}

func (s source) named(v any) (*unstructured.Unstructured, error) {
	fields, ok := v.(map[string]any)
	if !ok || len(fields) == 0 {
		return nil, fmt.Errorf("%w: no object", errNotJSON)
	}
	if _, ok := fields["kind"]; !ok {
		fields["apiVersion"], fields["kind"] = s.resource.gvk.GroupVersion().String(), s.resource.gvk.Kind
	}
	return &unstructured.Unstructured{Object: fields}, nil
}

var errBrief = errors.New("watches end as soon as they are made")

// follow sends what happens from a resource version on until ctx ends. A watch
// that ends is resumed where it was; if that is not possible, or fails for
// longer than AuditReadMax, the error is sent and nothing after it.
func (s source) follow(ctx context.Context, version string, out chan<- event) {
	retry := s.a.o.Timings.AuditRead
	for ctx.Err() == nil {
		began := s.a.o.Clock.Now()
		next, err := s.watchOnce(ctx, version, out)
		held := err == nil && s.a.o.Clock.Since(began) >= s.a.o.Timings.AuditHeld
		if held || next != version {
			version, retry = next, s.a.o.Timings.AuditRead
		}
		if err == nil && !held && retry > s.a.o.Timings.AuditReadMax {
			err = errBrief
		}
		if err != nil && (!passing(err) || retry > s.a.o.Timings.AuditReadMax) {
			s.send(ctx, out, event{err: s.failure(verbWatch, err)})
			return
		}
		if err != nil && ctx.Err() == nil {
			s.erred(s.failure(verbWatch, err))
		}
		if !held {
			s.a.sleep(ctx, jitter(retry))
			retry *= 2
		}
	}
}

// passing tells whether another watch may go on where this one failed.
func passing(err error) bool {
	return !expired(err) && !lasting(err) && !apierrors.IsUnauthorized(err)
}

func (s source) send(ctx context.Context, out chan<- event, e event) bool {
	select {
	case <-ctx.Done():
		return false
	case out <- e:
		return true
	}
}

// watchOnce watches from version until the watch ends and returns where it was
// then.
func (s source) watchOnce(ctx context.Context, version string, out chan<- event) (string, error) {
	seconds := int(watchFor.Seconds() * (1 + rand.Float64()))
	body, err := s.request(verbWatch, "").Param("watch", "true").Param("resourceVersion", version).
		Param("allowWatchBookmarks", "true").Param("timeoutSeconds", strconv.Itoa(seconds)).Stream(ctx)
	if err != nil {
		return version, err
	}
	defer body.Close()
	defer s.hold(ctx, out)()
	for docs := newDocuments(body, watchBuffer); ; {
		text, err := docs.value()
		if err != nil {
			return version, nil // it ends, or breaks off
		}
		e, err := s.event(text)
		if err != nil {
			return version, err
		}
		version = e.object.GetResourceVersion()
		e.version, e.received = number(version), s.a.o.Clock.Now()
		if !s.send(ctx, out, e) {
			return version, nil
		}
	}
}

// hold sends in a moment that a watch holds, unless what it returns is called
// before.
func (s source) hold(parent context.Context, out chan<- event) (end func()) {
	ctx, cancel := context.WithCancel(parent)
	var task sync.WaitGroup
	task.Go(func() {
		if s.a.sleep(ctx, s.a.o.Timings.AuditHeld) {
			s.send(ctx, out, event{kind: holding})
		}
	})
	return func() { cancel(); task.Wait() }
}

// number orders resource versions, as those of a kind may be (apimachinery
// pkg/util/resourceversion); 0 is one that cannot be.
func number(version string) uint64 {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// event decodes an event of a watch. An error that it tells of is returned.
func (s source) event(text []byte) (event, error) {
	v, err := decode(text)
	if err != nil {
		return event{}, err
	}
	fields, _ := v.(map[string]any)
	kind, _ := fields["type"].(string)
	if watch.EventType(kind) == watch.Error {
		status, _ := fields["object"].(map[string]any)
		out := &metav1.Status{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(status, out); err != nil {
			return event{}, fmt.Errorf("%w: %w", errNotJSON, err)
		}
		return event{}, apierrors.FromObject(out)
	}
	u, err := s.named(fields["object"])
	return event{kind: watch.EventType(kind), object: u}, err
}
