package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

const (
	// buffered is how many events may wait: beyond, the connection does.
	buffered = 100
	// watchFor is how long a watch lasts at least before it is made anew.
	watchFor = 5 * time.Minute
	// brief watches are not made anew at once.
	brief = time.Second
)

// event is a change of an object, or the end of a watch that cannot be resumed.
type event struct {
	kind     watch.EventType
	object   *unstructured.Unstructured
	received time.Time
	err      error
}

// The verbs of requests, as metrics tell them.
const (
	verbList     = "list"
	verbWatch    = "watch"
	verbDiscover = "discover"
)

// failure is a request that failed.
type failure struct {
	verb, of string
	err      error
}

func (f *failure) Error() string { return fmt.Sprintf("%sing %s: %v", f.verb, f.of, f.err) }

func (f *failure) Unwrap() error { return f.err }

// erred counts an error.
func (s source) erred(err error) {
	verb := verbWatch
	if f := (*failure)(nil); errors.As(err, &f) {
		verb = f.verb
	}
	s.a.metrics.errors.WithLabelValues(s.resource.gvk.Group, s.resource.gvk.Kind, verb).Inc()
}

// source reads the objects of one kind.
type source struct {
	a        *Auditor
	resource resource
}

// page lists a page of the objects, of a namespace if one is given. Without a
// token it is the first, as of now. A token that has run out is replaced by the
// one that the API server offers instead: the rest of the list is then newer
// than its beginning, which the watch makes up for.
func (s source) page(ctx context.Context, namespace, token string) (*unstructured.UnstructuredList, error) {
	s.a.metrics.requests.WithLabelValues(verbList).Inc()
	list, err := s.a.client.Resource(s.resource.gvr).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: pageSize, Continue: token})
	if err == nil {
		return list, nil
	}
	if offered := offeredToken(err); token != "" && offered != "" {
		s.a.metrics.requests.WithLabelValues(verbList).Inc()
		list, err = s.a.client.Resource(s.resource.gvr).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: pageSize, Continue: offered})
	}
	if err != nil {
		return nil, &failure{verb: verbList, of: s.resource.gvr.GroupResource().String(), err: err}
	}
	return list, nil
}

func offeredToken(err error) string {
	if status := apierrors.APIStatus(nil); apierrors.IsResourceExpired(err) && errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

// follow sends what happens from a resource version on until ctx ends. A watch
// that ends is resumed where it was; if that is not possible the error is sent
// and nothing after it.
func (s source) follow(ctx context.Context, version string, out chan<- event) {
	retry := firstRetry
	for ctx.Err() == nil {
		began := s.a.o.Clock.Now()
		next, err := s.watchOnce(ctx, version, out)
		if next != version {
			version, retry = next, firstRetry
		}
		if err != nil && (!passing(err) || retry > lastRetry) {
			s.send(ctx, out, event{err: &failure{verb: verbWatch, of: s.resource.gvr.GroupResource().String(), err: err}})
			return
		}
		if err != nil {
			s.erred(&failure{verb: verbWatch, err: err})
		}
		if s.a.o.Clock.Since(began) < brief {
			s.a.sleep(ctx, jitter(retry))
			retry *= 2
		}
	}
}

// passing tells whether another watch may go on where this one failed.
func passing(err error) bool {
	return !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) && !apierrors.IsForbidden(err) &&
		!apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) && !apierrors.IsUnauthorized(err)
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
	s.a.metrics.requests.WithLabelValues(verbWatch).Inc()
	w, err := s.a.client.Resource(s.resource.gvr).Watch(ctx, metav1.ListOptions{
		ResourceVersion: version, AllowWatchBookmarks: true,
		TimeoutSeconds: ptr.To(int64(watchFor.Seconds() * (1 + rand.Float64()))),
	})
	if err != nil {
		return version, err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			return version, apierrors.FromObject(e.Object)
		}
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return version, errNoObject
		}
		version = u.GetResourceVersion()
		if e.Type == watch.Bookmark {
			continue
		}
		if !s.send(ctx, out, event{kind: e.Type, object: u, received: s.a.o.Clock.Now()}) {
			return version, nil
		}
	}
	return version, nil
}
