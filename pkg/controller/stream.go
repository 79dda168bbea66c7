package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// stream watches a kind by a decoder that keeps nothing between events, which
// are rare. That of the dynamic client keeps room for the largest there was, and
// a deep stack: 20 KB for each kind.
func stream(ctx context.Context, c rest.Interface, from schema.GroupVersionResource, o metav1.ListOptions, log logr.Logger) (watch.Interface, error) {
	o.Watch = true
	body, err := c.Get().AbsPath("apis", from.Group, from.Version, from.Resource).
		VersionedParams(&o, metav1.ParameterCodec).SetHeader("Accept", runtime.ContentTypeJSON).Stream(ctx)
	if err != nil {
		return nil, err
	}
	return watch.NewStreamWatcherWithLogger(log, &frames{body: body},
		apierrors.NewClientErrorReporter(http.StatusInternalServerError, http.MethodGet, "ClientWatchDecoding")), nil
}

// frames are the events of a watch, one JSON document after the other.
type frames struct {
	body  io.ReadCloser
	rest  []byte // what has been read of the next
	first [512]byte
}

var _ watch.Decoder = &frames{}

// Decode returns the next event. The error is io.EOF when the watch has ended
// after one, and io.ErrUnexpectedEOF when it has in the midst of one.
func (f *frames) Decode() (watch.EventType, runtime.Object, error) {
	// It is here that nearly all time is spent, so that the stack is to be small.
	for len(f.rest) == 0 {
		n, err := f.body.Read(f.first[:])
		f.rest = bytes.TrimSpace(f.first[:n])
		if err != nil && len(f.rest) == 0 {
			return "", nil, err
		}
	}
	return f.event()
}

// event reads the rest of an event that has begun.
func (f *frames) event() (watch.EventType, runtime.Object, error) {
	text, err := f.next()
	if err != nil {
		return "", nil, err
	}
	var event struct {
		Type   watch.EventType
		Object json.RawMessage
	}
	if err := json.Unmarshal(text, &event); err != nil {
		return "", nil, fmt.Errorf("reading an event: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(event.Object); err != nil {
		return "", nil, fmt.Errorf("reading the object of an event: %w", err)
	}
	return event.Type, u, nil
}

// next reads the text of an event that has begun. What comes after it is kept.
func (f *frames) next() (json.RawMessage, error) {
	d := json.NewDecoder(io.MultiReader(bytes.NewReader(f.rest), f.body))
	var text json.RawMessage
	if err := d.Decode(&text); err != nil {
		return nil, err
	}
	var err error
	f.rest, err = io.ReadAll(d.Buffered())
	f.rest = bytes.TrimSpace(f.rest)
	return text, err
}

// Close implements watch.Decoder.
func (f *frames) Close() { _ = f.body.Close() }
