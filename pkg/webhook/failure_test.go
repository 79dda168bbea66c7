package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
)

var zeroPerimeter exempt.Perimeter

// TestFailures: whatever cannot be judged is an HTTP error and never a verdict.
func TestFailures(t *testing.T) {
	good := request(t, nil)
	object := func(v any) string { return request(t, map[string]any{"object": v}) }
	cases := map[string]struct {
		body string
		code int
		text string
	}{
		"Empty":             {"", 400, "EOF"},
		"Truncated":         {good[:len(good)/2], 400, "decoding the AdmissionReview"},
		"TruncatedAtTheEnd": {good[:len(good)-1], 400, "decoding the AdmissionReview"},
		"NotJSON":           {"apiVersion: v1", 400, "decoding the AdmissionReview"},
		"NotAnObject":       {`["AdmissionReview"]`, 400, "want an object"},
		"Null":              {"null", 400, "want an object"},
		"Trailing":          {good + "{}", 400, "something follows"},
		"TrailingGarbage":   {good + "x", 400, "something follows"},
		"TrailingBrace":     {good + "}", 400, "something follows"},
		"Twice":             {good + good, 400, "something follows"},
		"TwoRequests": {
			strings.TrimSuffix(good, "}") + `,"request":` + `{}` + `}`, 400, `field "request" comes twice`,
		},
		"TwoObjects": {
			strings.Replace(good, `"request":{`, `"request":{"object":{},`, 1), 400, `field "object" comes twice`,
		},
		"EscapedTwin": {
			strings.Replace(good, `"request":{`, `"request":{"\u006fbject":{},`, 1), 400, `field "object" comes twice`,
		},
		"NoRequest":         {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, 400, "no request"},
		"RequestIsNull":     {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":null}`, 400, "want an object"},
		"RequestIsText":     {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":"x"}`, 400, "want an object"},
		"RequestInCapitals": {strings.Replace(good, `"request"`, `"Request"`, 1), 400, "no request"},
		"Beta":              {strings.Replace(good, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), 400, "want AdmissionReview of admission.k8s.io/v1"},
		"OtherKind":         {strings.Replace(good, "AdmissionReview", "ConversionReview", 1), 400, "ConversionReview"},
		"HugeKind":          {`{"kind":"` + strings.Repeat("x", 1<<20) + `"}`, 400, "want AdmissionReview"},
		"NoUID":             {request(t, map[string]any{"uid": nil}), 400, "uid"},
		"EmptyUID":          {request(t, map[string]any{"uid": ""}), 400, "uid"},
		"UIDIsNumber":       {request(t, map[string]any{"uid": 7}), 400, "reading the request"},
		"NoKind":            {request(t, map[string]any{"kind": nil}), 400, "kind"},
		"KindIsText":        {request(t, map[string]any{"kind": "ConfigMap"}), 400, "reading the request"},
		"NoResource":        {request(t, map[string]any{"resource": nil}), 400, "resource"},
		"NoOperation":       {request(t, map[string]any{"operation": nil}), 400, "operation"},
		"AnyOperation":      {request(t, map[string]any{"operation": "*"}), 400, "operation"},
		"LowerOperation":    {request(t, map[string]any{"operation": "create"}), 400, "operation"},
		"UserIsText":        {request(t, map[string]any{"userInfo": "ann"}), 400, "reading the request"},
		"ObjectIsText":      {object("x"), 400, "request.object"},
		"ObjectIsList":      {object([]any{}), 400, "request.object"},
		"ObjectIsNumber":    {object(7), 400, "request.object"},
		"OldObjectIsList":   {request(t, map[string]any{"oldObject": []any{}}), 400, "request.oldObject"},
		"NoObject":          {object(nil), 400, "has no object"},
		"NullObject":        {object(json.RawMessage("null")), 400, "has no object"},
		"NoObjectOnUpdate":  {request(t, map[string]any{"operation": "UPDATE", "object": nil}), 400, "has no object"},
		"NoOldOnDelete":     {request(t, map[string]any{"operation": "DELETE", "object": nil}), 400, "has no object"},
		"ObjectInCapitals":  {strings.Replace(good, `"object"`, `"Object"`, 1), 400, "has no object"},
		"NaN":               {strings.Replace(good, `"b"`, "NaN", 1), 400, "decoding the AdmissionReview"},
		"Infinite":          {strings.Replace(good, `"b"`, "1e400", 1), 400, "decoding the AdmissionReview"},
		"Hexadecimal":       {strings.Replace(good, `"b"`, "0x10", 1), 400, "decoding the AdmissionReview"},
		"Comment":           {"/**/" + good, 400, "decoding the AdmissionReview"},
		"ByteOrderMark":     {"\ufeff" + good, 400, "decoding the AdmissionReview"},
		"TooDeep":           {raw(t, nested(10001)), 400, "exceeded max depth"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			h := newHandler(t, parts{reviewer: unreachable(t), options: webhook.Options{Metrics: reg}})
			w := post(h, tc.body)
			failed(t, w, tc.code, tc.text)
			if w.Body.Len() > 1000 {
				t.Errorf("the answer quotes %d bytes", w.Body.Len())
			}
			if n := counted(t, reg, "fusegate_admission_reviews_total", "error"); n != 1 {
				t.Errorf("counted %v errors, want 1", n)
			}
		})
	}
}

// nested is an object of so many levels.
func nested(levels int) string {
	return strings.Repeat(`{"a":`, levels-1) + "{}" + strings.Repeat("}", levels-1)
}

// raw is a request whose object is this text.
func raw(t testing.TB, object string) string {
	return strings.Replace(request(t, map[string]any{"object": "OBJECT"}), `"OBJECT"`, object, 1)
}

// TestTransportFailures: what is refused before the body is read.
func TestTransportFailures(t *testing.T) {
	cases := map[string]struct {
		change func(*http.Request)
		code   int
		text   string
	}{
		"Get":           {func(r *http.Request) { r.Method = http.MethodGet }, 405, "want POST"},
		"Put":           {func(r *http.Request) { r.Method = http.MethodPut }, 405, "want POST"},
		"NoContentType": {func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "want application/json"},
		"YAML":          {func(r *http.Request) { r.Header.Set("Content-Type", "application/yaml") }, 415, "want application/json"},
		"Protobuf":      {func(r *http.Request) { r.Header.Set("Content-Type", "application/vnd.kubernetes.protobuf") }, 415, "want application/json"},
		"BadType":       {func(r *http.Request) { r.Header.Set("Content-Type", "application/json;;") }, 415, "want application/json"},
		"Oversized":     {func(r *http.Request) { r.ContentLength = 48<<20 + 1 }, 413, "larger than"},
		"BrokenBody": {func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))
		}, 400, "reading the body"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, webhook.Path, strings.NewReader(request(t, nil)))
			r.Header.Set("Content-Type", "application/json")
			tc.change(r)
			w := httptest.NewRecorder()
			newHandler(t, parts{reviewer: unreachable(t)}).ServeHTTP(w, r)
			failed(t, w, tc.code, tc.text)
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestContentTypeParameters: a charset is no other type.
func TestContentTypeParameters(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, webhook.Path, strings.NewReader(request(t, nil)))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	newHandler(t, parts{}).ServeHTTP(w, r)
	answered(t, w)
}

// TestOversizedWithoutLength has a body that does not say how long it is.
func TestOversizedWithoutLength(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, webhook.Path, spaces{})
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	newHandler(t, parts{reviewer: unreachable(t)}).ServeHTTP(w, r)
	failed(t, w, http.StatusRequestEntityTooLarge, "larger than")
}

// spaces is an endless body.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestUndecided: failures past decoding.
func TestUndecided(t *testing.T) {
	late := policy.Result{Faults: []policy.Fault{{Constraint: constraint("a", policy.Deny), Cause: policy.CauseTimeout, Err: errors.New("late")}}}
	cases := map[string]struct {
		parts parts
		code  int
		text  string
	}{
		"NothingJudged": {parts{reviewer: finds(late)}, 500, "no constraint could be judged: constraint K/a: late"},
		"NotReady": {parts{reviewer: unreachable(t), options: webhook.Options{
			Ready: func() error { return errors.New("3 templates to go") },
		}}, 503, "not ready: 3 templates to go"},
		"Panic": {parts{reviewer: reviewerFunc(func(context.Context, *policy.Review) policy.Result { panic("secret") })}, 500, "internal error"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			tc.parts.options.Metrics = reg
			w := post(newHandler(t, tc.parts), request(t, nil))
			failed(t, w, tc.code, tc.text)
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer shows the panic: %q", w.Body)
			}
			if n := counted(t, reg, "fusegate_admission_reviews_total", "error"); n != 1 {
				t.Errorf("counted %v errors, want 1", n)
			}
		})
	}
}

// TestPanicIsSurvived: the next request on the same server is answered, over
// the same connection, and nothing is held any more.
func TestPanicIsSurvived(t *testing.T) {
	const panicCount = 600
	reg := prometheus.NewRegistry()
	panics := true
	h := newHandler(t, parts{options: webhook.Options{Metrics: reg}, reviewer: reviewerFunc(
		func(context.Context, *policy.Review) policy.Result {
			if panics {
				panic("boom")
			}
			return policy.Result{}
		})})
	s := httptest.NewServer(h)
	defer s.Close()
	send := func() int {
		response, err := s.Client().Post(s.URL+webhook.Path, "application/json", strings.NewReader(request(t, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	// More often than what a request holds would fit into the limits.
	for range panicCount {
		if got := send(); got != http.StatusInternalServerError {
			t.Fatalf("got %d, want 500", got)
		}
	}
	panics = false
	if got := send(); got != http.StatusOK {
		t.Errorf("after the panics: got %d, want 200", got)
	}
	if n := counted(t, reg, "fusegate_admission_reviews_total", "error"); n != panicCount {
		t.Errorf("counted %v errors, want %d", n, panicCount)
	}
}
