package exempt_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

const (
	create   = policy.Create
	update   = policy.Update
	remove   = policy.Delete
	connects = policy.Connect
)

var (
	every         = []policy.Operation{create, update, remove}
	systemUsers   = []authenticationv1.UserInfo{apiserver, scheduler, node, bootstrap, own, account("fusegate-system", "fusegate-webhook")}
	controllers   = []authenticationv1.UserInfo{manager, by("system:cloud-controller-manager"), by("system:kube-proxy"), by("system:addon-manager"), account("kube-system", "replicaset-controller"), account("kube-system", "coredns")}
	tenants       = []authenticationv1.UserInfo{alice, admin, by("system:anonymous", "system:unauthenticated"), account("team-a", "deployer"), account("default", "default")}
	everyone      = append(append(append([]authenticationv1.UserInfo{}, systemUsers...), controllers...), tenants...)
	ordinaryKinds = []string{
		"pods team-a/web", "deployments.apps team-a/web", "secrets team-a/s", "configmaps default/c",
		"services default/s", "persistentvolumeclaims team-a/data", "ingresses.networking.k8s.io team-a/i",
		"networkpolicies.networking.k8s.io team-a/n", "resourceclaims.resource.k8s.io team-a/r",
		"replicasets.apps team-a/web-1", "jobs.batch team-a/j", "roles.rbac.authorization.k8s.io team-a/r",
		"serviceaccounts team-a/default", "nodes.metrics.example.com team-a/n",
		"namespaces team-a", "namespaces default", "clusterroles.rbac.authorization.k8s.io admin",
		"customresourcedefinitions.apiextensions.k8s.io widgets.example.com", "persistentvolumes pv-1",
		"storageclasses.storage.k8s.io fast", "priorityclasses.scheduling.k8s.io high",
		"deviceclasses.resource.k8s.io gpu", "leases.example.com team-a/l", "events.example.com team-a/e",
		"deployments.apps/scale team-a/web", "pods/ephemeralcontainers team-a/web", "pods/resize team-a/web",
		"services/status team-a/s", "widgets.example.com kube-system", "pods team-a/kube-system",
		"services/status default/kubernetes", "pods kube-system-2/web", "namespaces kube-systems",
	}
)

// builtInStatuses are the subresources of Kubernetes by which metadata can change.
var builtInStatuses = []string{
	"namespaces/status team-a", "namespaces/finalize team-a", "persistentvolumeclaims/status team-a/data", "persistentvolumes/status pv-1",
	"pods/status team-a/web", "replicationcontrollers/status team-a/r", "resourcequotas/status team-a/q",
	"customresourcedefinitions.apiextensions.k8s.io/status widgets.example.com", "daemonsets.apps/status team-a/d",
	"deployments.apps/status team-a/d", "replicasets.apps/status team-a/r", "statefulsets.apps/status team-a/s",
	"horizontalpodautoscalers.autoscaling/status team-a/h", "cronjobs.batch/status team-a/c", "jobs.batch/status team-a/j",
	"storageversions.internal.apiserver.k8s.io/status s", "evictionrequests.lifecycle.k8s.io/status team-a/e",
	"evictions.lifecycle.k8s.io/status team-a/e", "ingresses.networking.k8s.io/status team-a/i",
	"poddisruptionbudgets.policy/status team-a/p", "devicetaintrules.resource.k8s.io/status d",
	"resourceclaims.resource.k8s.io/status team-a/r", "resourcepoolstatusrequests.resource.k8s.io/status r",
	"compositepodgroups.scheduling.k8s.io/status team-a/g", "podgroups.scheduling.k8s.io/status team-a/g",
	"storageversionmigrations.storagemigration.k8s.io/status s",
}

// metadata are changes that policies go by, and one that has the old metadata.
var (
	metadataChanges = []map[string]any{
		{"labels": map[string]any{"app": "other"}}, {"labels": nil}, {"annotations": map[string]any{"note": "x", "more": ""}},
		{"annotations": map[string]any{}}, {"ownerReferences": nil}, {"ownerReferences": []any{}},
	}
	metadataKept = []map[string]any{{}, {"resourceVersion": "2", "managedFields": []any{map[string]any{"manager": "x"}}}}
	noBinding    = map[string]any{"labels": nil, "annotations": nil, "ownerReferences": nil}
	topology     = map[string]any{"annotations": map[string]any{}, "labels": map[string]any{"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "b"}}
	manyLabels   = map[string]any{"annotations": nil, "labels": map[string]any{"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "b", "c": "d"}}
	oneLabel     = map[string]any{"annotations": nil, "labels": map[string]any{"app": "web"}}
	oneNote      = map[string]any{"labels": nil, "annotations": map[string]any{"a": ""}}
	criticalOnes = []string{"nodes/status n1", "apiservices.apiregistration.k8s.io/status v1.a", "certificatesigningrequests.certificates.k8s.io/status c", "volumeattachments.storage.k8s.io/status v", "servicecidrs.networking.k8s.io/status s", "flowschemas.flowcontrol.apiserver.k8s.io/status f"}
)

// TestMetadataThroughSubresources are the rows of the table that depend on what a
// write changes.
func TestMetadataThroughSubresources(t *testing.T) {
	cases := map[string]struct {
		reason     string
		users      []authenticationv1.UserInfo
		operations []policy.Operation
		requests   []string
		metadata   []map[string]any
		want       bool
	}{
		"ByTenants":        {"labels, annotations and owners that a status brings are judged", tenants, []policy.Operation{update}, builtInStatuses, metadataChanges, true},
		"StatusAlone":      {"a status alone never is", everyone, []policy.Operation{update}, builtInStatuses, metadataKept, false},
		"BySystem":         {"nor is what the control plane writes", append(controllers, systemUsers...), []policy.Operation{update}, builtInStatuses, metadataChanges, false},
		"NoUpdate":         {"a subresource is updated, nothing else", everyone, []policy.Operation{create, remove, connects}, builtInStatuses, metadataChanges, false},
		"CustomResources":  {"the status of a custom resource cannot change metadata", everyone, []policy.Operation{update}, []string{"widgets.example.com/status team-a/w", "pods.metrics.example.com/status team-a/p", "namespaces.example.com/finalize team-a"}, metadataChanges, false},
		"Critical":         {"nor is what keeps the cluster alive", everyone, []policy.Operation{update}, criticalOnes, metadataChanges, false},
		"OtherSubresource": {"other subresources that the control plane writes", everyone, []policy.Operation{create, update}, []string{"serviceaccounts/token team-a/s", "pods/eviction team-a/web", "configmaps/finalize team-a/c"}, metadataChanges, false},
		"SystemNamespaces": {"system namespaces stay outside", everyone, []policy.Operation{update}, []string{"namespaces/status kube-system", "namespaces/finalize kube-public", "pods/status kube-system/p"}, metadataChanges, false},
		"Binding":          {"a Binding gives its Pod labels and annotations", tenants, []policy.Operation{create}, []string{"pods/binding team-a/web"}, []map[string]any{manyLabels, oneLabel, oneNote}, true},
		"BareBinding":      {"one without any is no policy's, nor one with what the API server adds", everyone, []policy.Operation{create}, []string{"pods/binding team-a/web"}, []map[string]any{noBinding, topology}, false},
		"OldBinding":       {"to the old ones the API server adds nothing", tenants, []policy.Operation{create}, []string{"bindings team-a/web"}, []map[string]any{topology, manyLabels, oneLabel, oneNote}, true},
		"BareOldBinding":   {"they too may be bare", everyone, []policy.Operation{create}, []string{"bindings team-a/web"}, []map[string]any{noBinding}, false},
		"SystemBinding":    {"the scheduler is never asked", append(controllers, systemUsers...), []policy.Operation{create}, []string{"pods/binding team-a/web", "bindings team-a/web"}, []map[string]any{manyLabels, oneLabel, oneNote}, false},
		"OtherBinding":     {"bindings of other groups are none", everyone, []policy.Operation{create}, []string{"pods.example.com/binding team-a/web", "deployments.apps/binding team-a/web"}, []map[string]any{oneLabel}, false},
	}
	p := mustNew(t, exempt.Options{})
	s := newAPIServer(p, exempt.PolicyEntry)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, metadata := range tc.metadata {
				for _, r := range requests(tc.users, tc.operations, tc.requests) {
					if got := verdict(t, p, s, exempt.PolicyEntry, changed(r, metadata)); got != tc.want {
						t.Errorf("%s: %s with %v reaches the webhook: %v, want %v", tc.reason, describe(r), metadata, got, tc.want)
					}
				}
			}
		})
	}
}

// TestRequestTable is the request table of the safety design, row by row.
func TestRequestTable(t *testing.T) {
	cases := map[string]struct {
		reason     string
		users      []authenticationv1.UserInfo
		operations []policy.Operation
		requests   []string
		want       bool
	}{
		"SystemNamespaces": {
			reason:     "anything namespaced in the system namespaces, and those Namespaces",
			users:      everyone,
			operations: every,
			requests: []string{
				"pods kube-system/coredns", "configmaps kube-public/cluster-info", "secrets kube-node-lease/s",
				"deployments.apps fusegate-system/fusegate-webhook", "services/status kube-system/s",
				"widgets.example.com kube-system/w", "pods kube-system/", "pods/ephemeralcontainers kube-system/p",
				"namespaces kube-system", "namespaces kube-public", "namespaces kube-node-lease",
				"namespaces fusegate-system", "namespaces/finalize kube-public", "namespaces/status kube-system",
			},
		},
		"SystemUsers": {
			reason:     "anything by the API server, the scheduler, nodes, bootstrapping nodes, Fusegate",
			users:      systemUsers,
			operations: append(every, connects),
			requests:   ordinaryKinds,
		},
		"Controllers": {
			reason:     "anything by controllers and kube-system's accounts that is no CREATE of a workload",
			users:      controllers,
			operations: []policy.Operation{update, remove},
			requests:   ordinaryKinds,
		},
		"ControllersCreateOther": {
			reason:     "what controllers create is exempt unless it is one of the workload kinds itself",
			users:      controllers,
			operations: []policy.Operation{create},
			requests: []string{
				"deployments.apps team-a/d", "secrets team-a/s", "serviceaccounts team-a/default",
				"configmaps team-a/kube-root-ca.crt", "namespaces team-a", "persistentvolumes pv-1",
				"clusterroles.rbac.authorization.k8s.io admin", "controllerrevisions.apps team-a/c",
				"pods/ephemeralcontainers team-a/web", "pods/binding team-a/web", "pods/eviction team-a/web",
				"jobs.batch.volcano.sh team-a/j", "pods.metrics.k8s.io team-a/p", "replicasets.example.com team-a/r",
				"resourceclaimtemplates.resource.k8s.io team-a/r", "cronjobs.batch team-a/c",
			},
		},
		"ControllersCreateWorkloads": {
			reason:     "workloads that controllers create in a tenant's namespace are judged",
			users:      controllers,
			operations: []policy.Operation{create},
			requests: []string{
				"pods team-a/", "pods team-a/web-0", "replicasets.apps team-a/web-1", "jobs.batch team-a/j",
				"persistentvolumeclaims team-a/data-web-0", "resourceclaims.resource.k8s.io team-a/r", "pods default/",
			},
			want: true,
		},
		"CriticalResources": {
			reason:     "by anyone: what keeps the cluster alive",
			users:      everyone,
			operations: every,
			requests: []string{
				"leases.coordination.k8s.io team-a/l", "leases.coordination.k8s.io default/l", "events team-a/e",
				"events.events.k8s.io team-a/e", "nodes n1", "nodes/status n1", "endpoints team-a/e",
				"endpointslices.discovery.k8s.io team-a/e", "tokenreviews.authentication.k8s.io ",
				"selfsubjectreviews.authentication.k8s.io ", "subjectaccessreviews.authorization.k8s.io ",
				"localsubjectaccessreviews.authorization.k8s.io team-a/",
				"selfsubjectaccessreviews.authorization.k8s.io ", "selfsubjectrulesreviews.authorization.k8s.io ",
				"certificatesigningrequests.certificates.k8s.io csr-1",
				"certificatesigningrequests.certificates.k8s.io/approval csr-1",
				"podcertificaterequests.certificates.k8s.io team-a/p",
				"flowschemas.flowcontrol.apiserver.k8s.io f", "apiservices.apiregistration.k8s.io v1.example.com",
				"prioritylevelconfigurations.flowcontrol.apiserver.k8s.io p", "ipaddresses.networking.k8s.io 10.0.0.1",
				"servicecidrs.networking.k8s.io kubernetes", "volumeattachments.storage.k8s.io v",
				"csinodes.storage.k8s.io n1", "resourceslices.resource.k8s.io s", "bindings team-a/web",
			},
		},
		"CriticalSubresources": {
			reason:     "by anyone: subresources that the control plane writes, as long as metadata stays",
			users:      everyone,
			operations: every,
			requests: []string{
				"pods/status team-a/web", "deployments.apps/status team-a/web", "widgets.example.com/status team-a/w",
				"services.example.com/status team-a/s", "pods/binding team-a/web", "namespaces/finalize team-a",
				"namespaces/status team-a", "serviceaccounts/token team-a/default", "pods/eviction team-a/web",
				"customresourcedefinitions.apiextensions.k8s.io/status widgets.example.com",
				"persistentvolumes/status pv-1", "poddisruptionbudgets.policy/status team-a/p",
			},
		},
		"OwnKinds": {
			reason:     "by anyone: the policies and the engine's own kinds",
			users:      everyone,
			operations: every,
			requests: []string{
				"constrainttemplates.templates.gatekeeper.sh t", "k8srequiredlabels.constraints.gatekeeper.sh c",
				"k8srequiredlabels.constraints.gatekeeper.sh/status c", "configs.config.gatekeeper.sh team-a/config",
				"syncsets.syncset.gatekeeper.sh s", "constraintpodstatuses.status.gatekeeper.sh team-a/s",
				"assign.mutations.gatekeeper.sh a", "expansiontemplate.expansion.gatekeeper.sh e",
				"providers.externaldata.gatekeeper.sh p", "connections.connection.gatekeeper.sh team-a/c",
				"reports.fusegate.dev r", "canaries.fusegate.dev path-1", "canaries.fusegate.dev x",
			},
		},
		"TenantsAndAdmins": {
			reason:     "a tenant's or an admin's write of anything else",
			users:      tenants,
			operations: every,
			requests:   ordinaryKinds,
			want:       true,
		},
		"TenantsConnect": {
			reason:     "exec, attach and the like are judged",
			users:      tenants,
			operations: []policy.Operation{connects},
			requests:   []string{"pods/exec team-a/web", "pods/attach team-a/web", "pods/portforward team-a/web", "services/proxy team-a/s"},
			want:       true,
		},
		"MistakenGroupsAndNames": {
			reason: "neither a group nor a user name that an identity provider hands out by mistake is enough",
			users: []authenticationv1.UserInfo{
				by("alice", "system:nodes", "system:authenticated"), by("system:node:n1", "system:authenticated"),
				by("system:node:n1"), by("alice", "system:bootstrappers"), by("system:bootstrap:abcdef", "system:authenticated"),
				by("system:bootstrap:abcdef", "system:nodes"), by("system:node:n1", "system:bootstrappers"),
				by("alice", "system:serviceaccounts:kube-system"), by("system:serviceaccount:kube-system:coredns"),
				by("system:serviceaccount:kube-system-2:coredns", "system:serviceaccounts:kube-system"),
				by("system:nodes", "system:nodes"), by("System:apiserver"), by("system:apiserver2"), by("xsystem:node:n1", "system:nodes"),
				account("kube-public", "default"), account("fusegate-system", "default"), by("eks:node-manager"),
			},
			operations: every,
			requests:   ordinaryKinds,
			want:       true,
		},
		"AddOns": {
			reason:     "an add-on's namespace that Fusegate does not know",
			users:      controllers,
			operations: []policy.Operation{create},
			requests:   []string{"pods calico-system/calico-node-x", "pods csi-driver/csi-node-x"},
			want:       true,
		},
		"Impersonation": {
			reason:     "the API server shows the effective user only",
			users:      []authenticationv1.UserInfo{by("system:apiserver"), by("system:apiserver", "system:authenticated")},
			operations: every,
			requests:   ordinaryKinds,
		},
		"Canaries": {
			reason:     "its own account's canaries are the one thing of Fusegate's own that is intercepted",
			users:      []authenticationv1.UserInfo{own, alice},
			operations: []policy.Operation{create},
			requests:   []string{"canaries.fusegate.dev policy-1"},
			want:       true,
		},
	}
	p := mustNew(t, exempt.Options{})
	s := newAPIServer(p, exempt.PolicyEntry)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, r := range requests(tc.users, tc.operations, tc.requests) {
				if got := verdict(t, p, s, exempt.PolicyEntry, r); got != tc.want {
					t.Errorf("%s: %s reaches the webhook: %v, want %v", tc.reason, describe(r), got, tc.want)
				}
			}
		})
	}
}

func requests(users []authenticationv1.UserInfo, ops []policy.Operation, what []string) []*policy.Review {
	var out []*policy.Review
	for _, u := range users {
		for _, op := range ops {
			for _, w := range what {
				out = append(out, request(op, u, w))
			}
		}
	}
	return out
}
