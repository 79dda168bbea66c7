package install

import (
	"bytes"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/config"
)

// Plan is what is to be installed. The caller must not change what it holds.
type Plan struct {
	// Objects are in the order in which they are applied: the namespace and
	// the CRDs first, the webhook configuration last.
	Objects []*unstructured.Unstructured
	// Definitions are CRDs of other projects that Config.Reports asks for.
	// Apply leaves those alone that somebody else installed, and YAML leaves
	// them out: what applies YAML would not.
	Definitions []*unstructured.Unstructured
	// NetworkPolicy is what Restrict applies, last of all, and takes back where it
	// shuts an API server out; nil if there is to be none.
	NetworkPolicy *unstructured.Unstructured
	// Config is the configuration that the plan was rendered from, with
	// defaults.
	Config config.Config
}

// YAML is the plan for kubectl apply, one document per object. Equal plans
// give equal bytes.
func (p Plan) YAML() ([]byte, error) {
	var out bytes.Buffer
	objects := p.Objects
	if p.NetworkPolicy != nil {
		objects = append(slices.Clone(objects), p.NetworkPolicy)
	}
	for _, u := range objects {
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", refOf(u), err)
		}
		out.WriteString("---\n")
		if u.GetKind() == networkKind {
			out.WriteString("# Apply this when the webhook is armed. If it shuts an API server out, every write\n" +
				"# waits for the timeout: fusegate install takes it back then, and kubectl does not.\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Ref names an object.
type Ref struct {
	schema.GroupVersionKind
	Namespace, Name string
}

// String is the kind, and the name as kubectl writes it: with its namespace if
// it has one.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

func refOf(u *unstructured.Unstructured) Ref {
	return Ref{GroupVersionKind: u.GroupVersionKind(), Namespace: u.GetNamespace(), Name: u.GetName()}
}

// Action is what became of an object.
type Action string

// The actions of Plan.Apply and Remove, in kubectl's words.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
	// Kept objects are not deleted, or not changed: users' policies, and what
	// is not Fusegate's.
	Kept Action = "kept"
)

// Change is what became of one object, or in a dry run would.
type Change struct {
	Object Ref
	Action Action
	// Fields are what would be Configured, in a dry run of Plan.Apply only.
	Fields []FieldChange
}
