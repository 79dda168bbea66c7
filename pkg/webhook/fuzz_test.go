package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/policy"
)

// seeds are reviews as the API server sends them, and what looks like them.
var seeds = []string{
	reviewOfSize(3),
	`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},` +
		`"resource":{"group":"","version":"v1","resource":"pods"},"subResource":"ephemeralcontainers","requestKind":{"group":"","version":"v1","kind":"Pod"},` +
		`"name":"p","namespace":"ns","operation":"UPDATE","userInfo":{"username":"ann","uid":"1","groups":["a","b"],"extra":{"k":["v"]}},` +
		`"object":{"apiVersion":"v1","n":1000000,"f":1.5,"l":[1,null,"\ud800"]},"oldObject":{"Spec":1,"spec":2},"dryRun":true,"options":{"kind":"UpdateOptions"}}}`,
	`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"resource":{"resource":"pods"},` +
		`"operation":"DELETE","object":null,"oldObject":{"a":{"a":1,"a":2}},"userInfo":{},"options":null}}`,
	`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"PodExecOptions"},"resource":{"resource":"pods"},` +
		`"operation":"CONNECT","subResource":"exec","userInfo":{"groups":null},"dryRun":null}}`,
	`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","Object":{},"object":{},"object":1}}`,
	`{"request":{"object":[1e400,-0,9223372036854775808,0.1e-400]}}`,
	"{\"kind\":\"\xff\"}", `null`, `[]`, `{}{}`, `{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
}

// FuzzDecode: decode does not panic, refuses with 400, and what it accepts reads
// the same to apimachinery's typed decoder.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decode(body)
		if err != nil {
			var he *httpError
			if !errors.As(err, &he) || he.code != http.StatusBadRequest {
				t.Fatalf("got %v, want a bad request", err)
			}
			return
		}
		text, err := json.Marshal(r.Request)
		if err != nil {
			t.Fatalf("marshalling the request: %v", err)
		}
		var whole admissionv1.AdmissionReview
		if err := utiljson.Unmarshal(body, &whole); err != nil {
			if !strings.Contains(err.Error(), "exceeded max depth") {
				t.Errorf("accepted what apimachinery does not read: %v", err)
			}
			return
		}
		var again admissionv1.AdmissionRequest
		if err := utiljson.Unmarshal(text, &again); err != nil {
			t.Fatalf("reading %s again: %v", text, err)
		}
		sameHeader(t, whole.Request, &again)
		sameReview(t, r, whole.Request)
	})
}

// sameHeader compares all but the objects, which are raw text in requests.
func sameHeader(t *testing.T, want, got *admissionv1.AdmissionRequest) {
	t.Helper()
	a, b := *want, *got
	a.Object.Raw, a.OldObject.Raw, a.Options.Raw = nil, nil, nil
	b.Object.Raw, b.OldObject.Raw, b.Options.Raw = nil, nil, nil
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the request reads differently:\n%+v\n%+v", a, b)
	}
}

// sameReview compares what policies see with what the API server stores.
func sameReview(t *testing.T, r *policy.Review, want *admissionv1.AdmissionRequest) {
	t.Helper()
	if r.UID != string(want.UID) || r.Kind.Kind != want.Kind.Kind || r.Name != want.Name || r.Namespace != want.Namespace ||
		r.Operation != policy.Operation(want.Operation) || r.UserInfo.Username != want.UserInfo.Username {
		t.Errorf("got %+v of %+v", r, want)
	}
	object := want.Object.Raw
	if want.Operation == admissionv1.Delete {
		object = want.OldObject.Raw
	}
	if len(object) == 0 {
		object = []byte("null")
	}
	var stored map[string]any
	if err := utiljson.Unmarshal(object, &stored); err != nil {
		t.Fatalf("the object of %s: %v", object, err)
	}
	if !reflect.DeepEqual(stored, r.Object) {
		t.Errorf("got the object %v of %s", r.Object, bytes.TrimSpace(object))
	}
}
