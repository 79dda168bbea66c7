package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxBody bounds one AdmissionReview in bytes. The API server takes
	// requests of up to 3 MiB (MaxRequestBodyBytes in k8s.io/apiserver
	// pkg/server/config.go); JSON can make six bytes of one, and an update
	// carries the old object too.
	maxBody = 48 << 20
	// minWeight is what a body counts at least, which bounds how many requests
	// are in progress.
	minWeight = 256 << 10
	// maxBodies bounds the bodies held at once, in bytes.
	maxBodies = 128 << 20
	// maxWork bounds the memory that decoded reviews take, in bytes as
	// estimated by cost. With maxBodies it must stay well below the memory
	// limit of the Deployment: three objects of a tenant's would do to have
	// the process killed, and nothing judged.
	maxWork = 512 << 20
)

// limits bound the memory that the requests in progress take. A request waits
// for room as long as its time allows, so that a big object slows others down
// instead of letting them go unjudged.
type limits struct {
	bodies, work *semaphore.Weighted
}

func newLimits() *limits {
	return &limits{bodies: semaphore.NewWeighted(maxBodies), work: semaphore.NewWeighted(maxWork)}
}

// receive reads the body of r when there is room for it. The caller must call
// release when it is done with the body.
func (l *limits) receive(ctx context.Context, w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	weight := max(r.ContentLength, minWeight)
	if r.ContentLength < 0 {
		weight = maxBody
	}
	release, err = reserve(ctx, l.bodies, weight)
	if err != nil {
		return nil, nil, err
	}
	body, err = readBody(ctx, w, r)
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// begin waits until there is room for what decoding and judging body takes.
// What it needs is reserved at once, so that requests which hold a body and
// wait here do not wait for each other.
func (l *limits) begin(ctx context.Context, body []byte) (release func(), err error) {
	return reserve(ctx, l.work, min(cost(body), maxWork))
}

func reserve(ctx context.Context, s *semaphore.Weighted, weight int64) (func(), error) {
	if err := s.Acquire(ctx, weight); err != nil {
		return nil, &httpError{http.StatusServiceUnavailable, fmt.Errorf("too much in progress: %w", err)}
	}
	return func() { s.Release(weight) }, nil
}

// cost estimates the memory that decoding and judging a body takes, in bytes.
// It is governed by the number of values and not by the length: an empty object
// is three bytes of JSON, and 450 bytes as a map and as a value of Rego. The
// factors are measured, and rounded up.
func cost(body []byte) int64 {
	composites := bytes.Count(body, []byte("{")) + bytes.Count(body, []byte("["))
	return 4*int64(len(body)) + 450*int64(composites) + 64*int64(bytes.Count(body, []byte(",")))
}

// readBody reads the body for half of the time that is left; what arrives
// later could not be judged, and a client that sends nothing must not keep its
// room.
func readBody(ctx context.Context, w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if deadline, ok := ctx.Deadline(); ok {
		// A writer that has no deadlines, as in tests, has no slow client. The
		// server lifts the deadline itself when it sees the end of the body.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Until(deadline) / 2))
	}
	var body bytes.Buffer
	body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return body.Bytes(), nil
	case errors.As(err, &large):
		return nil, tooLarge(maxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &httpError{http.StatusRequestTimeout, fmt.Errorf("reading the body: %w", err)}
	}
	return nil, badRequest("reading the body: %w", err)
}
