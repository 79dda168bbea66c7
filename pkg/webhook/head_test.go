package webhook

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fusegate/fusegate/pkg/policy"
)

// sent is a review as an API server writes it.
func sent(t testing.TB, change func(*admissionv1.AdmissionRequest)) []byte {
	t.Helper()
	r := &admissionv1.AdmissionRequest{
		UID: "u-1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		RequestKind: &metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Name: "", Namespace: "team-a", Operation: admissionv1.Create,
		UserInfo: authenticationv1.UserInfo{
			Username: `ann "the" \ admin`, UID: "7", Groups: []string{"dev", "}]{["}, Extra: map[string]authenticationv1.ExtraValue{"scopes": {"a", "{"}},
		},
		Object: runtime.RawExtension{Raw: []byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"labels":{"name":"no","uid":"no"},"name":"web-x1","uid":"o-1"},"spec":{}}`)},
	}
	if change != nil {
		change(r)
	}
	text, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: "admission.k8s.io/v1"}, Request: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestScanHead: the head of what API servers send is that of the whole, found as soon
// as it is there and not before.
func TestScanHead(t *testing.T) {
	cases := map[string]func(*admissionv1.AdmissionRequest){
		"Create": nil,
		"Subresource": func(r *admissionv1.AdmissionRequest) {
			r.SubResource, r.Name, r.Operation = "scale", "web", admissionv1.Update
		},
		"Cluster": func(r *admissionv1.AdmissionRequest) { r.Namespace, r.Name = "", "x" },
		"Delete": func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object, r.OldObject = admissionv1.Delete, runtime.RawExtension{}, r.Object
		},
		"Foreign": func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username = "zoë <x>\u2028" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			text := sent(t, change)
			whole, err := decode(text)
			if err != nil {
				t.Fatal(err)
			}
			h, found := scanHead(text)
			if !found || h.uid != whole.UID {
				t.Fatalf("got %+v, %v", h, found)
			}
			got := policy.Review{
				UID: h.uid, Kind: h.Kind, Resource: h.Resource, SubResource: h.SubResource, Name: h.Name, Namespace: h.Namespace,
				Operation: h.Operation, UserInfo: h.UserInfo,
			}
			want := policy.Review{
				UID: whole.UID, Kind: whole.Kind, Resource: whole.Resource, SubResource: whole.SubResource, Name: whole.Name, Namespace: whole.Namespace,
				Operation: whole.Operation, UserInfo: whole.UserInfo,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the head (-whole +head):\n%s", diff)
			}
			begins := strings.Index(string(text), `"object":`)
			for n := range text {
				if _, found := scanHead(text[:n]); found != (n > begins+len(`"object"`)) {
					t.Fatalf("after %d bytes, %q: found %v", n, text[max(0, n-20):n], found)
				}
			}
		})
	}
}

func TestScanObject(t *testing.T) {
	text := sent(t, nil)
	h, _ := scanHead(text)
	if name, uid := scanObject(text[h.object:]); name != "web-x1" || uid != "o-1" {
		t.Errorf("got %q, %q", name, uid)
	}
}

// FuzzScanHead: nothing makes it panic, nor say what the whole does not.
func FuzzScanHead(f *testing.F) {
	f.Add(sent(f, nil))
	f.Add([]byte(`{"request":{"uid":"u","object":{}}}`))
	f.Add([]byte(`{"request":{"uid":"\`))
	f.Add([]byte(`{"request":{"userInfo":[}],"uid":"u","object":`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, found := scanHead(text)
		if found && h.object <= len(text) {
			scanObject(text[h.object:])
		}
		whole, err := decode(text)
		if err != nil || !found {
			return
		}
		got := []any{h.uid, h.Namespace, h.Operation, h.UserInfo.Username, h.Resource}
		want := []any{whole.UID, whole.Namespace, whole.Operation, whole.UserInfo.Username, whole.Resource}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-whole +head):\n%s", text, diff)
		}
	})
}
