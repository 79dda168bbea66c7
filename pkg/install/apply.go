package install

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// FieldManager owns what is applied, unless ApplyOptions say otherwise.
const FieldManager = "fusegate-install"

const (
	// establishTimeout bounds the wait for one CRD to be served.
	establishTimeout = time.Minute
	// establishFirst and establishLast are the pauses between two looks at it.
	establishFirst, establishLast = 20 * time.Millisecond, 200 * time.Millisecond
)

// ApplyOptions of Plan.Apply. The zero value works.
type ApplyOptions struct {
	// FieldManager owns the applied fields; empty means FieldManager.
	FieldManager string
	// Force takes fields over from other managers that set them to something
	// else. Without it they are reported as a ConflictError.
	Force bool
	// TakeOverCRDs replaces CRDs of the same name that another client
	// installed.
	TakeOverCRDs bool
	// DryRun asks the API server what would change, and changes nothing.
	DryRun bool
	// Discovery tells the version of the API server, which must be 1.30 or
	// later. When it is nil, the API server is judged only by whether it kept
	// the webhook configuration as it was applied.
	Discovery discovery.ServerVersionInterface
	// Progress receives each change as it is made; it may be nil.
	Progress func(Change)
}

// applier applies one plan.
type applier struct {
	client  client.Client
	options ApplyOptions
	plan    Plan
	// missing is the namespace that a dry run did not create.
	missing string
	changes []Change
}

// Apply brings the cluster to the plan by server-side apply, object by object
// in order, and waits for each CRD to be served before it goes on. It returns
// what it changed, also when it fails; applying the plan again goes on from
// there. c must not read from a cache.
//
// It changes nothing when the API server is too old (see ApplyOptions), when
// the configuration is not valid, where Gatekeeper runs (GatekeeperError), or
// when a CRD belongs to somebody else (ForeignCRDError). In the end it reads
// the webhook configuration back and removes it if the API server did not keep
// what makes it safe (UnsafeError). All of these match ErrRefused.
//
// It does not apply the NetworkPolicy, which Restrict does, but removes one of an
// earlier plan that is not this one's.
func (p Plan) Apply(ctx context.Context, c client.Client, o ApplyOptions) ([]Change, error) {
	o.FieldManager = cmp.Or(o.FieldManager, FieldManager)
	a := &applier{client: c, options: o, plan: p}
	if err := a.preflight(ctx); err != nil {
		return nil, err
	}
	for _, u := range p.Definitions {
		if err := a.define(ctx, u); err != nil {
			return a.changes, err
		}
	}
	for _, u := range p.Objects {
		if err := a.applyOrKeep(ctx, u); err != nil {
			return a.changes, err
		}
	}
	if !o.DryRun {
		if err := a.confirm(ctx); err != nil {
			return a.changes, err
		}
	}
	err := a.unrestrict(ctx)
	return a.changes, err
}

// preflight finds out what can be found out before anything is changed.
func (a *applier) preflight(ctx context.Context) error {
	if err := a.plan.Config.Validate(); err != nil {
		return Refuse(fmt.Errorf("validating the configuration: %w", err))
	}
	if err := checkVersion(a.options.Discovery); err != nil {
		return err
	}
	if err := checkGatekeeper(ctx, a.client); err != nil {
		return err
	}
	if a.options.TakeOverCRDs {
		return nil
	}
	return a.checkCRDs(ctx)
}

// apply applies one object and records the change.
func (a *applier) apply(ctx context.Context, want *unstructured.Unstructured) error {
	ref := refOf(want)
	if ref.Namespace != "" && ref.Namespace == a.missing {
		a.record(Change{Object: ref, Action: Created})
		return nil
	}
	before, err := get(ctx, a.client, ref)
	if err != nil {
		return err
	}
	after := want.DeepCopy()
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(after), a.applyOptions(ref)...); err != nil {
		return explain(ref, err)
	}
	change := Change{Object: ref, Action: action(before, after)}
	if a.options.DryRun {
		change.Fields = fields(before, after)
	}
	a.record(change)
	if a.options.DryRun {
		if ref.Kind == "Namespace" && before == nil {
			a.missing = ref.Name
		}
		return nil
	}
	return a.await(ctx, ref)
}

func (a *applier) applyOptions(ref Ref) []client.ApplyOption {
	out := []client.ApplyOption{client.FieldOwner(a.options.FieldManager)}
	if a.options.Force || a.options.TakeOverCRDs && ref.Kind == crdKind {
		out = append(out, client.ForceOwnership)
	}
	if a.options.DryRun {
		out = append(out, client.DryRunAll)
	}
	return out
}

func (a *applier) record(change Change) {
	a.changes = append(a.changes, change)
	if a.options.Progress != nil {
		a.options.Progress(change)
	}
}

// await waits until what was applied can be used: until a CRD is served.
func (a *applier) await(ctx context.Context, ref Ref) error {
	if ref.Kind != crdKind {
		return nil
	}
	var live *unstructured.Unstructured
	ctx, cancel := context.WithTimeout(ctx, establishTimeout)
	defer cancel()
	err := poll(ctx, establishFirst, establishLast, func(ctx context.Context) (bool, error) {
		var err error
		live, err = get(ctx, a.client, ref)
		return live != nil && condition(live, "Established") == "True", err
	})
	if err != nil {
		return fmt.Errorf("waiting for %s to be established (NamesAccepted is %q): %w", ref, condition(live, "NamesAccepted"), err)
	}
	return nil
}

// poll looks at once, and then after pauses that double from first to last, until it
// is done, fails or ctx ends, whose error it returns then.
func poll(ctx context.Context, first, last time.Duration, look wait.ConditionWithContextFunc) error {
	pauses := wait.Backoff{Duration: first, Factor: 2, Cap: last, Steps: math.MaxInt}
	return pauses.DelayFunc().Until(ctx, true, true, look)
}

// condition returns the status of a condition of u, which may be nil.
func condition(u *unstructured.Unstructured, kind string) string {
	if u == nil {
		return ""
	}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == kind {
			status, _ := c["status"].(string)
			return status
		}
	}
	return ""
}

// get returns the object as it is, or nil if there is none.
func get(ctx context.Context, c client.Reader, ref Ref) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(ref.GroupVersionKind)
	err := c.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, u)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", ref, err)
	}
	return u, nil
}

// action compares what was with what is. Who owns the fields does not count.
func action(before, after *unstructured.Unstructured) Action {
	switch {
	case before == nil:
		return Created
	case equality.Semantic.DeepEqual(content(before), content(after)):
		return Unchanged
	}
	return Configured
}

// content is what an apply can change of an object.
func content(u *unstructured.Unstructured) map[string]any {
	u = u.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(u.Object, "status")
	return u.Object
}
