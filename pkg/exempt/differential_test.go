package exempt_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// The words that random requests are made of: those that rules speak of, some
// that are close to them, and the empty string for a field that is left out.
var (
	someUsers = []string{
		"", "alice", "kubernetes-admin", "system:apiserver", "system:apiserver ", "system:kube-scheduler", "system:node:n1",
		"system:node:", "system:node", "system:bootstrap:x", "system:kube-controller-manager", "system:kube-proxy",
		"system:serviceaccount:kube-system:replicaset-controller", "system:serviceaccount:kube-system:coredns",
		"system:serviceaccount:fusegate-system:fusegate-webhook", "system:serviceaccount:guard:fusegate-webhook",
		"system:serviceaccount:guard:extra", "system:serviceaccount:ci:deployer", "eks:node-manager", "vendor:controller",
		"bob \"the\" \\builder", "zo\u00eb",
	}
	someGroups = []string{
		"system:nodes", "system:bootstrappers", "system:serviceaccounts:kube-system", "system:masters",
		"system:authenticated", "platform", "on-call", "",
	}
	someNamespaces = []string{"", "default", "team-a", "kube-system", "kube-public", "fusegate-system", "guard", "calico-system", "x-addon", "legacy", "kube-system-2"}
	someNames      = []string{"", "web", "kube-system", "guard", "x-addon", "legacy", "calico-system", "policy-1", "path-1", "policy", "team-a"}
	someResources  = []schema.GroupResource{
		{Resource: "pods"}, {Resource: "namespaces"}, {Resource: "nodes"}, {Resource: "services"}, {Resource: "events"},
		{Resource: "bindings"}, {Resource: "persistentvolumeclaims"}, {Group: "apps", Resource: "replicasets"},
		{Group: "apps", Resource: "deployments"}, {Group: "batch", Resource: "jobs"}, {Group: "batch.example.com", Resource: "jobs"},
		{Group: "coordination.k8s.io", Resource: "leases"}, {Group: "coordination.k8s.io", Resource: "leasecandidates"},
		{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, {Group: "resource.k8s.io", Resource: "resourceclaims"},
		{Group: "resource.k8s.io", Resource: "resourceslices"}, {Group: "storage.k8s.io", Resource: "storageclasses"},
		{Group: "storage.k8s.io", Resource: "csinodes"}, {Group: "networking.k8s.io", Resource: "ingresses"},
		{Group: "networking.k8s.io", Resource: "ipaddresses"}, {Group: "templates.gatekeeper.sh", Resource: "constrainttemplates"},
		{Group: "constraints.gatekeeper.sh", Resource: "x"}, {Group: "config.gatekeeper.sh", Resource: "configs"},
		{Group: "fusegate.dev", Resource: "canaries"}, {Group: "fusegate.dev", Resource: "reports"}, {Group: "example.com", Resource: "services"},
	}
	someMetadata = slices.Concat(metadataChanges, metadataKept, []map[string]any{noBinding, topology, manyLabels, oneLabel, oneNote})

	someSubresources = []string{"", "", "", "status", "binding", "finalize", "token", "approval", "eviction", "scale", "ephemeralcontainers", "exec"}
	someOperations   = []policy.Operation{create, update, remove, connects}
)

// perimeters are the Options that the differential tests go through.
var perimeters = map[string]exempt.Options{
	"Smallest": {},
	"Widened": {
		Namespaces: []string{"legacy", "calico-*", "*-addon"}, Users: []string{"bob \"the\" \\builder", "zo\u00eb"},
		Groups: []string{"platform", "on-call"}, ServiceAccounts: []string{"ci/deployer"}, Controllers: []string{"vendor:controller"},
		Provider: "eks", OwnNamespace: "guard", OwnServiceAccounts: []string{"extra"},
	},
	"ControllerManagerOnly": {KubeSystemAccounts: exempt.ControllerManagerOnly, Groups: []string{"platform"}},
}

// forEachServer runs f for every perimeter and entry, with the API server
// that it configures, side by side.
func forEachServer(t *testing.T, f func(*testing.T, exempt.Perimeter, exempt.Entry, apiServer)) {
	for name, o := range perimeters {
		for _, entry := range entries {
			t.Run(fmt.Sprintf("%s/%s", name, entry), func(t *testing.T) {
				t.Parallel()
				p := mustNew(t, o)
				f(t, p, entry, newAPIServer(p, entry))
			})
		}
	}
}

// TestAgreesOnEveryCombination goes through users, groups, resources,
// subresources, operations and places, and lets the API server's selector and
// CEL say the same as JudgeAt of each.
func TestAgreesOnEveryCombination(t *testing.T) {
	users := append([]authenticationv1.UserInfo{{}, by("alice", "system:nodes"), by("system:node:n1"), by("eks:x"), by("vendor:controller")}, everyone...)
	var reviews []*policy.Review
	for _, u := range users {
		for _, gr := range someResources {
			for _, sub := range []string{"", "status", "eviction", "scale"} {
				for _, op := range []policy.Operation{create, remove} {
					for _, ns := range []string{"", "team-a", "kube-system"} {
						reviews = append(reviews, combination(u, gr, sub, op, ns, "policy-1"))
					}
				}
			}
		}
	}
	forEachServer(t, func(t *testing.T, p exempt.Perimeter, entry exempt.Entry, s apiServer) {
		for _, r := range reviews {
			verdict(t, p, s, entry, r)
		}
	})
}

// TestAgreesOnRandomRequests does so for requests that nobody thought of.
func TestAgreesOnRandomRequests(t *testing.T) {
	forEachServer(t, func(t *testing.T, p exempt.Perimeter, entry exempt.Entry, s apiServer) {
		random, metadata := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
		var called int
		for range 5000 {
			if verdict(t, p, s, entry, randomReview(random, metadata)) {
				called++
			}
		}
		if called == 0 {
			t.Errorf("none of the random requests reached %s, so they show nothing", entry)
		}
	})
}

func randomReview(random, metadata *rand.Rand) *policy.Review {
	var groups []string
	for range random.IntN(4) {
		groups = append(groups, pick(random, someGroups))
	}
	r := combination(by(pick(random, someUsers), groups...), pick(random, someResources), pick(random, someSubresources),
		pick(random, someOperations), pick(random, someNamespaces), pick(random, someNames))
	if some := metadata.IntN(len(someMetadata) + 1); some < len(someMetadata) {
		return changed(r, someMetadata[some])
	}
	return r
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

func combination(u authenticationv1.UserInfo, gr schema.GroupResource, sub string, op policy.Operation, ns, name string) *policy.Review {
	if gr.Resource == "namespaces" {
		ns = name
	}
	return &policy.Review{
		Kind:        schema.GroupVersionKind{Group: gr.Group, Version: "v1", Kind: "Any"},
		Resource:    gr.WithVersion("v1"),
		SubResource: sub, Namespace: ns, Name: name, Operation: op, UserInfo: u,
	}
}

// TestMissingFields makes sure that leaving out what a request may leave out
// is no error, which under failurePolicy Ignore would skip the webhook.
func TestMissingFields(t *testing.T) {
	cases := map[string]*policy.Review{
		"NoUser":          request(create, authenticationv1.UserInfo{}, "pods team-a/web"),
		"NoUsername":      request(create, by("", "system:nodes"), "pods team-a/web"),
		"NoGroups":        request(create, by("alice"), "pods team-a/web"),
		"NoNamespace":     request(create, alice, "clusterroles.rbac.authorization.k8s.io r"),
		"NoName":          request(create, alice, "pods team-a/"),
		"NamelessCluster": request(create, alice, "clusterroles.rbac.authorization.k8s.io "),
		"NamelessNS":      request(create, alice, "namespaces "),
		"Nothing":         request(create, authenticationv1.UserInfo{}, "widgets.example.com "),
	}
	for name, o := range perimeters {
		p := mustNew(t, o)
		s := newAPIServer(p, exempt.PolicyEntry)
		for request, r := range cases {
			t.Run(name+"/"+request, func(t *testing.T) {
				if !verdict(t, p, s, exempt.PolicyEntry, r) {
					t.Errorf("%s does not reach the webhook", describe(r))
				}
			})
		}
	}
}
