package intercept_test

import (
	"encoding/json"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/policy"
)

// FuzzJudge gives the simulator entries and requests that nobody thought of.
// Whatever they are, the answer must be there, and must be the same again.
func FuzzJudge(f *testing.F) {
	rendered, err := json.Marshal(live(exempt.Perimeter{}, podRules()))
	if err != nil {
		f.Fatal(err)
	}
	object := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","labels":{"app":"web"}}}`
	f.Add(string(rendered), "CREATE", "pods", "", "web", "team-a", "alice", object)
	f.Add(`{"name":"x","rules":[{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":["*/*"]}],"matchConditions":[{"name":"a","expression":"object.a == oldObject.a"}]}`, "DELETE", "namespaces", "", "n", "", "", `{"metadata":{"labels":1}}`)
	f.Add(`{"objectSelector":{"matchLabels":{"a":"b"}},"matchConditions":[{"name":"fuse-open","expression":"false"},{"name":"b","expression":"authorizer.path('/x').check('get').allowed()"}]}`, "CONNECT", "pods", "exec", "n", "x", "u", `{"metadata":null}`)
	f.Add(`{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}`, "UPDATE", "namespaces", "status", "", "", "u", `[]`)
	f.Add(`{"name":"x","rules":[{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":["*/*"]}],"matchConditions":[{"name":"a","expression":"object.a == 1"}]}`, "D\xff", "pods", "", "n", "", "\xff", `{}`)
	f.Fuzz(func(t *testing.T, entry, op, resource, sub, name, namespace, user, object string) {
		var h admissionregistrationv1.ValidatingWebhook
		if json.Unmarshal([]byte(entry), &h) != nil {
			return
		}
		s, err := intercept.NewSimulator(h, intercept.Server{})
		if err != nil {
			return
		}
		var content map[string]any
		if utiljson.Unmarshal([]byte(object), &content) != nil {
			content = nil
		}
		r := intercept.Request{
			Kind: schema.GroupVersionKind{Version: "v1", Kind: "Any"}, Resource: schema.GroupVersionResource{Version: "v1", Resource: resource},
			SubResource: sub, Name: name, Namespace: namespace, Operation: policy.Operation(op), Object: content, OldObject: content,
		}
		r.User.Username = user
		first, second := s.Judge(t.Context(), r), s.Judge(t.Context(), r)
		if first.Called == (len(first.Reasons) > 0) {
			t.Errorf("Called is %t with the reasons %v", first.Called, first.Reasons)
		}
		if first.Called != second.Called {
			t.Errorf("judged again, Called is %t", second.Called)
		}
	})
}
