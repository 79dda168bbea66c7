package install_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

func awaitServed(t *testing.T, c client.Client) {
	t.Helper()
	await(t.Context(), t, "templates to be served", func(ctx context.Context) (bool, error) {
		u := named("templates.gatekeeper.sh/v1", "ConstraintTemplate", "none")
		err := c.Get(ctx, client.ObjectKeyFromObject(u), u)
		return apierrors.IsNotFound(err) && !isNoSuchPath(err), nil
	})
}

// isNoSuchPath tells a path that is not served from an object that is not
// there.
func isNoSuchPath(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

func TestRemove(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	u := parse(t, fmt.Sprintf(template, "v1"))
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}

	planned, err := install.Remove(t.Context(), c, ownConfig(t), install.RemoveOptions{DryRun: true})
	if err != nil {
		t.Fatalf("Remove in a dry run: %v", err)
	}
	only(t, apply(t, c, install.ApplyOptions{DryRun: true}), install.Unchanged)
	changes, err := install.Remove(t.Context(), c, ownConfig(t), install.RemoveOptions{})
	if err != nil {
		t.Fatalf("Remove: %v", err)
	}
	if diff := cmp.Diff(planned, changes); diff != "" {
		t.Errorf("changes (-dry run +real):\n%s", diff)
	}

	plan := render(t, ownConfig(t))
	if len(changes) != len(plan.Objects) || changes[0].Object.Kind != "ValidatingWebhookConfiguration" || changes[len(changes)-1].Object.Kind != "Namespace" {
		t.Errorf("got changes %v, want all objects, the webhook configuration first and the namespace last", changes)
	}
	for _, change := range changes {
		want := install.Deleted
		if change.Object.Kind == "CustomResourceDefinition" {
			want = install.Kept
		}
		only(t, []install.Change{change}, want)
	}
	if !exists(t, c, u) {
		t.Error("the user's template is gone")
	}
	for _, gone := range plan.Objects {
		if gone.GetKind() == "CustomResourceDefinition" || gone.GetNamespace() != "" || gone.GetKind() == "Namespace" {
			continue
		}
		if exists(t, c, gone.DeepCopy()) {
			t.Errorf("%s %s is still there", gone.GetKind(), gone.GetName())
		}
	}

	awaitStorage(t.Context(), t, c)
	again, err := install.Remove(t.Context(), c, ownConfig(t), install.RemoveOptions{Policies: true})
	if err != nil {
		t.Fatalf("Remove of the rest: %v", err)
	}
	if !slices.ContainsFunc(again, func(c install.Change) bool {
		return c.Object.Kind == "CustomResourceDefinition" && c.Action == install.Deleted
	}) {
		t.Errorf("got changes %v, want the CRD deleted when that is asked for", again)
	}
}

// TestRemoveKeepsOthers checks that what merely has the same name is kept.
func TestRemoveKeepsOthers(t *testing.T) {
	c := fresh(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ownConfig(t).Namespace}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), ns); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	changes, err := install.Remove(t.Context(), c, ownConfig(t), install.RemoveOptions{})
	if err != nil {
		t.Fatalf("Remove: %v", err)
	}
	changes = slices.DeleteFunc(changes, func(c install.Change) bool { return c.Object.Kind == "CustomResourceDefinition" }) // of other tests
	if len(changes) != 1 || changes[0].Action != install.Kept {
		t.Errorf("got changes %v, want the foreign namespace kept and nothing else found", changes)
	}
}

// failing is the real API server, except that it fails to delete some kinds, or
// puts the webhook configuration back when something else is deleted.
type failing struct {
	client.Client
	kind    string
	restore func(ctx context.Context) error
}

func (f failing) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	kind := o.GetObjectKind().GroupVersionKind().Kind
	if kind == f.kind {
		return errors.New("out of order")
	}
	if f.restore != nil && kind == "Namespace" {
		if err := f.restore(ctx); err != nil {
			return err
		}
	}
	return f.Client.Delete(ctx, o, opts...)
}

func TestRemoveGoesOn(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	changes, err := install.Remove(t.Context(), failing{Client: c, kind: "ValidatingWebhookConfiguration"}, ownConfig(t), install.RemoveOptions{})
	if err == nil || len(changes) > 0 {
		t.Errorf("got changes %v and error %v, want nothing removed while the webhook configuration stays", changes, err)
	}
	changes, err = install.Remove(t.Context(), failing{Client: c, kind: "Deployment"}, ownConfig(t), install.RemoveOptions{})
	if err == nil || strings.Count(err.Error(), "deleting Deployment") != 2 || changes[0].Object.Kind != "ValidatingWebhookConfiguration" {
		t.Errorf("got changes %v and error %v, want one for each Deployment, and the webhook configuration gone first", changes, err)
	}
	if last := changes[len(changes)-1]; last.Object.Kind != "Namespace" || last.Action != install.Deleted {
		t.Errorf("got last change %v, want the namespace deleted", last)
	}
}

// TestRemoveIgnoresTheConfiguration checks that the webhook configuration goes
// even if the rest cannot be listed.
func TestRemoveIgnoresTheConfiguration(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	changes, err := install.Remove(t.Context(), c, config.Config{Namespace: "No/Name"}, install.RemoveOptions{})
	if err == nil || !strings.Contains(err.Error(), "namespace:") || len(changes) != 1 || exists(t, c, webhookConfiguration()) {
		t.Errorf("got changes %v and error %v, want the webhook configuration gone and the name refused", changes, err)
	}
}

func TestRemoveElsewhere(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	_, err := install.Remove(t.Context(), c, config.Config{Namespace: "fusegate-nowhere"}, install.RemoveOptions{DryRun: true})
	if want := `in namespace "fusegate-testremoveelsewhere", not in "fusegate-nowhere": uninstall again with --namespace fusegate-testremoveelsewhere`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func TestRemoveSeesThatItIsPutBack(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	restored := parse(t, webhookOf("ValidatingWebhookConfiguration", install.ConfigurationName, "a.example.com"))
	_, err := install.Remove(t.Context(), failing{Client: c, restore: func(ctx context.Context) error {
		return c.Create(ctx, restored, client.FieldOwner("gitops"))
	}}, ownConfig(t), install.RemoveOptions{})
	if err == nil || !strings.Contains(err.Error(), "ValidatingWebhookConfiguration fusegate is there again (field managers: gitops)") {
		t.Errorf("got error %v, want one that says who put it back", err)
	}
}

// TestRights asks the real authorizer what the two accounts may do.
func TestRights(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	const webhook, controller = "fusegate-webhook", "fusegate-controller"
	own := ownConfig(t).Namespace
	cases := map[string]struct {
		attributes authorizationv1.ResourceAttributes
		may        []string
	}{
		"ReadTemplates":      {authorizationv1.ResourceAttributes{Verb: "watch", Group: "templates.gatekeeper.sh", Resource: "constrainttemplates"}, []string{webhook, controller}},
		"WriteTemplates":     {authorizationv1.ResourceAttributes{Verb: "patch", Group: "templates.gatekeeper.sh", Resource: "constrainttemplates"}, nil},
		"TemplateStatus":     {authorizationv1.ResourceAttributes{Verb: "patch", Group: "templates.gatekeeper.sh", Resource: "constrainttemplates", Subresource: "status"}, []string{webhook, controller}},
		"ReadConstraints":    {authorizationv1.ResourceAttributes{Verb: "list", Group: "constraints.gatekeeper.sh", Resource: "needslabels"}, []string{webhook, controller}},
		"DeleteConstraints":  {authorizationv1.ResourceAttributes{Verb: "delete", Group: "constraints.gatekeeper.sh", Resource: "needslabels"}, nil},
		"ConstraintStatus":   {authorizationv1.ResourceAttributes{Verb: "patch", Group: "constraints.gatekeeper.sh", Resource: "needslabels", Subresource: "status"}, []string{webhook, controller}},
		"ReadNamespaces":     {authorizationv1.ResourceAttributes{Verb: "watch", Resource: "namespaces"}, []string{webhook, controller}},
		"WriteNamespaces":    {authorizationv1.ResourceAttributes{Verb: "patch", Resource: "namespaces"}, nil},
		"ReadCRDs":           {authorizationv1.ResourceAttributes{Verb: "watch", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}, []string{webhook, controller}},
		"WriteCRDs":          {authorizationv1.ResourceAttributes{Verb: "patch", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}, []string{controller}},
		"OwnWebhook":         {authorizationv1.ResourceAttributes{Verb: "patch", Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations", Name: "fusegate"}, []string{controller}},
		"OtherWebhooks":      {authorizationv1.ResourceAttributes{Verb: "patch", Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations", Name: "other"}, nil},
		"CreateWebhooks":     {authorizationv1.ResourceAttributes{Verb: "create", Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"}, nil},
		"OwnLeases":          {authorizationv1.ResourceAttributes{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: own}, []string{webhook, controller}},
		"OtherLeases":        {authorizationv1.ResourceAttributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"}, nil},
		"Certificate":        {authorizationv1.ResourceAttributes{Verb: "update", Resource: "secrets", Namespace: own, Name: install.CertSecretName}, []string{controller}},
		"ReadSecrets":        {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: own, Name: install.CertSecretName}, []string{controller}},
		"Authority":          {authorizationv1.ResourceAttributes{Verb: "update", Resource: "secrets", Namespace: own, Name: install.AuthoritySecretName}, []string{controller}},
		"ReadAuthority":      {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: own, Name: install.AuthoritySecretName}, []string{controller}},
		"WriteOwnSecrets":    {authorizationv1.ResourceAttributes{Verb: "update", Resource: "secrets", Namespace: own, Name: "other"}, nil},
		"CreateSecrets":      {authorizationv1.ResourceAttributes{Verb: "create", Resource: "secrets", Namespace: own}, nil},
		"OtherSecrets":       {authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: "kube-system"}, []string{controller}}, // audit reads what constraints match
		"AllSecrets":         {authorizationv1.ResourceAttributes{Verb: "list", Resource: "secrets"}, []string{controller}},
		"WriteSecrets":       {authorizationv1.ResourceAttributes{Verb: "update", Resource: "secrets", Namespace: "kube-system"}, nil},
		"WriteAnything":      {authorizationv1.ResourceAttributes{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: "default"}, nil},
		"Events":             {authorizationv1.ResourceAttributes{Verb: "create", Group: "events.k8s.io", Resource: "events", Namespace: "default"}, []string{controller}},
		"Pods":               {authorizationv1.ResourceAttributes{Verb: "create", Resource: "pods", Namespace: own}, nil},
		"TemplateFinalizers": {authorizationv1.ResourceAttributes{Verb: "update", Group: "templates.gatekeeper.sh", Resource: "constrainttemplates", Subresource: "finalizers"}, []string{controller}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, account := range []string{webhook, controller} {
				review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
					User: "system:serviceaccount:" + ownConfig(t).Namespace + ":" + account, ResourceAttributes: &tc.attributes,
				}}
				await(t.Context(), t, account+" to be granted what it may do", func(ctx context.Context) (bool, error) {
					err := c.Create(ctx, review)
					return review.Status.Allowed || !slices.Contains(tc.may, account), err
				})
				if review.Status.Allowed && !slices.Contains(tc.may, account) {
					t.Errorf("%s may: %s", account, review.Status.Reason)
				}
			}
		})
	}
	t.Run("WithoutAudit", func(t *testing.T) { checkCertificateRights(t, c, own) })
}

// checkCertificateRights takes away the right to read everything, which is there
// for audit alone: the controller still reads the two Secrets, and no other.
func checkCertificateRights(t *testing.T, c client.Client, own string) {
	t.Helper()
	binding := named("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "fusegate-audit")
	if err := c.Delete(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	may := func(verb, name string) bool {
		t.Helper()
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:" + own + ":fusegate-controller",
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: "secrets", Namespace: own, Name: name},
		}}
		if err := c.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	await(t.Context(), t, "the binding to be gone", func(context.Context) (bool, error) { return !may("list", ""), nil })
	for name, want := range map[string]bool{install.AuthoritySecretName: true, install.CertSecretName: true, "other": false} {
		if got := may("get", name); got != want {
			t.Errorf("the controller may read Secret %s: %t, want %t", name, got, want)
		}
	}
}
