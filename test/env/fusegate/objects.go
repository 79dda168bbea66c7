package fusegate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// Denied is what a denial by Fusegate begins with.
const Denied = `admission webhook "validation.fusegate.dev" denied the request: `

// warned is a client that hears what API servers warn of.
type warned struct {
	client.WithWatch
}

// warnings are those of one request.
type warnings struct {
	mu   sync.Mutex
	list []string
}

type warningsKey struct{}

// hear gives warnings to whoever made the request.
type hear struct{}

func (hear) HandleWarningHeaderWithContext(ctx context.Context, _ int, _ string, text string) {
	if w, ok := ctx.Value(warningsKey{}).(*warnings); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.list = append(w.list, "Warning: "+text)
	}
}

var _ rest.WarningHandlerWithContext = hear{}

// as is a client of a user. "a as b" is a, who impersonates b in the group
// system:masters.
func (c *Cluster) as(t testing.TB, user string) warned {
	t.Helper()
	if known, ok := c.clients.Load(user); ok {
		return known.(warned)
	}
	name, impersonated, _ := strings.Cut(user, " as ")
	config := c.config(name)
	if impersonated != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: impersonated, Groups: []string{"system:masters"}}
	}
	config.WarningHandlerWithContext = hear{}
	cl, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	known, _ := c.clients.LoadOrStore(user, warned{cl})
	return known.(warned)
}

// Ask makes a request as a user, who may impersonate another as in "admin as eve",
// and returns what the API server warned of, and its error.
func (c *Cluster) Ask(t testing.TB, user string, request func(context.Context, client.Client) error) ([]string, error) {
	t.Helper()
	w := &warnings{}
	err := request(context.WithValue(t.Context(), warningsKey{}, w), c.as(t, user))
	return w.list, err
}

// Create creates an object as a user and returns what the API server warned of,
// and its error.
func (c *Cluster) Create(t testing.TB, user string, object *unstructured.Unstructured, o ...client.CreateOption) ([]string, error) {
	t.Helper()
	return c.Ask(t, user, func(ctx context.Context, cl client.Client) error { return cl.Create(ctx, object, o...) })
}

// Answer is what is said of a request: a line for each warning, and why it was
// refused. It is empty if nobody minds.
func Answer(warnings []string, err error) string {
	if err != nil {
		warnings = append(warnings, message(err))
	}
	return strings.Join(warnings, "\n")
}

// DryCreate creates an object without storing it and returns what is said of it,
// as Answer has it.
func (c *Cluster) DryCreate(t testing.TB, object string) string {
	t.Helper()
	return Answer(c.Create(t, controlplane.Admin, env.Parse(t, object), client.DryRunAll, client.FieldValidation("Strict")))
}

// message is that of an API server's answer.
func message(err error) string {
	if status, ok := err.(apierrors.APIStatus); ok {
		return status.Status().Message
	}
	return err.Error()
}

// AwaitCreate returns once creating the object has DryCreate say what is wanted.
func (c *Cluster) AwaitCreate(t testing.TB, object, want string) {
	t.Helper()
	env.Await(t, fmt.Sprintf("the answer %q", want), func() error {
		if got := c.DryCreate(t, object); got != want {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

// named is the object that tests name as in "constrainttemplate/labels" or
// "labels/owner": a constraint if it is nothing else, whose kind is found among
// those that are served.
func (c *Cluster) named(t testing.TB, name string) (*unstructured.Unstructured, error) {
	t.Helper()
	kind, name, ok := strings.Cut(name, "/")
	if !ok {
		t.Fatalf("%q is not kind/name", kind)
	}
	switch kind {
	case "constrainttemplate":
		return env.Object(engine.TemplateGroup+"/v1", "ConstraintTemplate", "", name), nil
	case "ar":
		return env.Object("fusegate.dev/v1alpha1", "AuditReport", "", name), nil
	}
	template := env.Object(engine.TemplateGroup+"/v1", "ConstraintTemplate", "", kind)
	crd := env.Object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", kind+"."+engine.ConstraintGroup)
	if err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
		return template, err
	}
	constraintKind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	return env.Object(engine.ConstraintGroup+"/v1beta1", constraintKind, "", name), nil
}

// Await returns a template, constraint or report, as in "labels/owner", once holds
// returns nil of it.
func (c *Cluster) Await(t testing.TB, object, what string, holds func(*unstructured.Unstructured) error) *unstructured.Unstructured {
	t.Helper()
	var of *unstructured.Unstructured
	env.Await(t, "the kind of "+object, func() (err error) {
		of, err = c.named(t, object)
		return err
	})
	return env.AwaitObject(t, c.Client(t), of, what, holds)
}

// Get reads such an object; it is nil if it is not there.
func (c *Cluster) Get(t testing.TB, object string) *unstructured.Unstructured {
	t.Helper()
	u, err := c.named(t, object)
	if err == nil {
		err = c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(u), u)
	}
	if err != nil {
		t.Logf("reading %s: %v", object, err)
		return nil
	}
	return u
}

// AwaitTemplate returns once constraints of a template can be created.
func (c *Cluster) AwaitTemplate(t testing.TB, name string) {
	t.Helper()
	c.Await(t, "constrainttemplate/"+name, "the template "+name+" to be ready", func(u *unstructured.Unstructured) error {
		return StatusOf(t, u).Condition("Ready", "True", "")
	})
}

// AwaitCondition waits until the condition Enforced of a constraint, as in
// kind/name, has the status and the reason, and returns its message.
func (c *Cluster) AwaitCondition(t testing.TB, constraint, status, reason string) (message string) {
	t.Helper()
	c.Await(t, constraint, fmt.Sprintf("%s to be Enforced=%s, %s", constraint, status, reason), func(u *unstructured.Unstructured) error {
		s := StatusOf(t, u)
		for _, condition := range s.Conditions {
			if condition.Type == "Enforced" {
				message = condition.Message
			}
		}
		return s.Condition("Enforced", status, reason)
	})
	return message
}

// AwaitEnforced waits until a constraint is.
func (c *Cluster) AwaitEnforced(t testing.TB, constraint string) {
	t.Helper()
	c.AwaitCondition(t, constraint, "True", "CanaryAnswered")
}

// Status is the part of a template's or constraint's status that Fusegate
// promises.
type Status struct {
	Created bool `json:"created"`
	ByPod   []struct {
		ID                 string     `json:"id"`
		ObservedGeneration int64      `json:"observedGeneration"`
		Enforced           bool       `json:"enforced"`
		Errors             []PodError `json:"errors"`
	} `json:"byPod"`
	Conditions []struct {
		Type, Status, Reason, Message string
	} `json:"conditions"`
}

// PodError is what a pod has recorded of an object.
type PodError struct{ Code, Message, Location string }

// StatusOf reads it from an object, which may be nil.
func StatusOf(t testing.TB, u *unstructured.Unstructured) (s Status) {
	t.Helper()
	if u == nil {
		return s
	}
	text, err := json.Marshal(u.Object["status"])
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Status reads the status of a template or constraint.
func (c *Cluster) Status(t testing.TB, object string) Status {
	t.Helper()
	return StatusOf(t, c.Get(t, object))
}

// Condition returns an error unless there is a condition with this status, and with
// this reason if one is given.
func (s Status) Condition(kind, status, reason string) error {
	for _, c := range s.Conditions {
		if c.Type == kind && c.Status == status && (c.Reason == reason || reason == "") {
			return nil
		}
	}
	return fmt.Errorf("conditions %+v: want %s=%s because of %q", s.Conditions, kind, status, reason)
}

// Pods are those that have an entry.
func (s Status) Pods() []string {
	var out []string
	for _, e := range s.ByPod {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return out
}
