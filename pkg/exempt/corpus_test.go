package exempt_test

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestCriticalRequests are the requests C01 to C24 of the safety design, as
// the components that keep a cluster alive make them.
func TestCriticalRequests(t *testing.T) {
	var (
		ccm    = account("kube-system", "cloud-controller-manager")
		nodes  = account("kube-system", "node-controller")
		daemon = account("kube-system", "daemon-set-controller")
		gc     = account("kube-system", "generic-garbage-collector")
		cni    = account("calico-system", "calico-node")
		csi    = account("csi-driver", "provisioner")
		dra    = account("dra-driver", "plugin")
	)
	cases := map[string]struct {
		exempt []*policy.Review
		// reaches are requests that the design leaves to failurePolicy Ignore.
		reaches []*policy.Review
	}{
		"C01": {exempt: []*policy.Review{
			request(update, manager, "leases.coordination.k8s.io kube-system/kube-controller-manager"),
			request(update, scheduler, "leases.coordination.k8s.io kube-system/kube-scheduler"),
			request(update, ccm, "leases.coordination.k8s.io kube-system/cloud-controller-manager"),
			request(update, account("kube-system", "cluster-autoscaler"), "leases.coordination.k8s.io kube-system/cluster-autoscaler"),
		}},
		"C02": {exempt: []*policy.Review{request(update, node, "leases.coordination.k8s.io kube-node-lease/n1")}},
		"C03": {exempt: []*policy.Review{request(update, apiserver, "leases.coordination.k8s.io kube-system/apiserver-x")}},
		"C04": {exempt: []*policy.Review{
			request(create, node, "nodes n1"), request(update, node, "nodes/status n1"), request(update, nodes, "nodes n1"),
		}},
		"C05": {exempt: []*policy.Review{
			request(create, bootstrap, "certificatesigningrequests.certificates.k8s.io "),
			request(create, node, "certificatesigningrequests.certificates.k8s.io csr-1"),
			request(update, account("kube-system", "certificate-controller"), "certificatesigningrequests.certificates.k8s.io/approval csr-1"),
			request(update, account("kube-system", "certificate-controller"), "certificatesigningrequests.certificates.k8s.io/status csr-1"),
		}},
		"C06": {exempt: []*policy.Review{request(update, apiserver, "configmaps kube-system/extension-apiserver-authentication")}},
		"C07": {exempt: []*policy.Review{
			request(create, apiserver, "clusterroles.rbac.authorization.k8s.io system:node"),
			request(update, apiserver, "clusterrolebindings.rbac.authorization.k8s.io system:node"),
			request(create, apiserver, "roles.rbac.authorization.k8s.io kube-public/r"),
			request(update, apiserver, "rolebindings.rbac.authorization.k8s.io kube-system/r"),
		}},
		"C08": {exempt: []*policy.Review{request(create, apiserver, "priorityclasses.scheduling.k8s.io system-node-critical")}},
		"C09": {exempt: []*policy.Review{
			request(create, apiserver, "flowschemas.flowcontrol.apiserver.k8s.io probes"),
			request(update, apiserver, "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io system"),
		}},
		"C10": {exempt: []*policy.Review{request(create, apiserver, "servicecidrs.networking.k8s.io kubernetes")}},
		"C11": {exempt: []*policy.Review{
			request(create, apiserver, "ipaddresses.networking.k8s.io 10.0.0.1"), request(remove, apiserver, "ipaddresses.networking.k8s.io 10.0.0.1"),
		}},
		"C12": {exempt: []*policy.Review{
			request(create, apiserver, "apiservices.apiregistration.k8s.io v1."), request(update, apiserver, "apiservices.apiregistration.k8s.io v1.apps"),
		}},
		"C13": {exempt: []*policy.Review{
			request(create, apiserver, "namespaces kube-node-lease"), request(create, apiserver, "namespaces default"),
			request(update, apiserver, "services default/kubernetes"), request(update, apiserver, "endpoints default/kubernetes"),
			request(update, apiserver, "endpointslices.discovery.k8s.io default/kubernetes"),
		}},
		"C14": {exempt: []*policy.Review{
			request(update, account("kube-system", "endpoint-controller"), "endpoints fusegate-system/fusegate-webhook"),
			request(create, account("kube-system", "endpointslice-controller"), "endpointslices.discovery.k8s.io team-a/s"),
		}},
		"C15": {exempt: []*policy.Review{
			request(create, alice, "tokenreviews.authentication.k8s.io "), request(create, node, "subjectaccessreviews.authorization.k8s.io "),
			request(create, alice, "selfsubjectaccessreviews.authorization.k8s.io "), request(create, alice, "selfsubjectrulesreviews.authorization.k8s.io "),
			request(create, alice, "localsubjectaccessreviews.authorization.k8s.io team-a/"), request(create, alice, "selfsubjectreviews.authentication.k8s.io "),
		}},
		"C16": {
			exempt: []*policy.Review{
				request(create, daemon, "pods kube-system/"), request(create, account("kube-system", "replicaset-controller"), "pods kube-system/"),
				request(create, account("kube-system", "replicaset-controller"), "pods fusegate-system/"),
			},
			reaches: []*policy.Review{request(create, daemon, "pods calico-system/"), request(create, daemon, "pods csi-driver/")},
		},
		"C17": {exempt: []*policy.Review{
			request(create, scheduler, "pods/binding team-a/web"), request(create, scheduler, "bindings team-a/web"),
			request(update, scheduler, "pods/status team-a/web"), request(update, node, "pods/status team-a/web"),
		}},
		"C18": {exempt: []*policy.Review{
			request(remove, nodes, "pods team-a/web"), request(update, nodes, "pods/status team-a/web"),
			request(remove, account("kube-system", "pod-garbage-collector"), "pods team-a/web"),
			request(create, admin, "pods/eviction team-a/web"), request(update, apiserver, "poddisruptionbudgets.policy/status team-a/p"),
		}},
		"C19": {exempt: []*policy.Review{
			request(update, account("kube-system", "namespace-controller"), "namespaces/finalize team-a"), request(remove, gc, "pods team-a/web"),
			request(remove, account("kube-system", "namespace-controller"), "secrets team-a/"), request(remove, gc, "clusterroles.rbac.authorization.k8s.io r"),
		}},
		"C20": {exempt: []*policy.Review{
			request(create, node, "serviceaccounts/token team-a/default"), request(create, admin, "secrets kube-system/bootstrap-token-abcdef"),
		}},
		"C21": {exempt: []*policy.Review{
			request(create, account("kube-system", "service-account-controller"), "serviceaccounts team-a/default"),
			request(create, account("kube-system", "root-ca-cert-publisher"), "configmaps team-a/kube-root-ca.crt"),
		}},
		"C22": {exempt: []*policy.Review{
			request(create, node, "events team-a/e"), request(update, alice, "events.events.k8s.io team-a/e"), request(create, cni, "events default/e"),
		}},
		"C23": {
			exempt: []*policy.Review{
				request(update, apiserver, "customresourcedefinitions.apiextensions.k8s.io/status x.example.com"),
				request(create, daemon, "controllerrevisions.apps team-a/c"), request(create, admin, "networkpolicies.networking.k8s.io kube-system/n"),
			},
			reaches: []*policy.Review{request(create, cni, "customresourcedefinitions.apiextensions.k8s.io x.example.com")},
		},
		"C24": {
			exempt: []*policy.Review{
				request(create, account("kube-system", "attachdetach-controller"), "volumeattachments.storage.k8s.io v"), request(create, csi, "volumeattachments.storage.k8s.io v"),
				request(update, node, "csinodes.storage.k8s.io n1"), request(update, account("kube-system", "persistent-volume-binder"), "persistentvolumes pv-1"),
				request(update, account("kube-system", "persistent-volume-binder"), "persistentvolumeclaims team-a/data"), request(create, dra, "resourceslices.resource.k8s.io s"),
				request(create, node, "podcertificaterequests.certificates.k8s.io team-a/p"),
			},
			reaches: []*policy.Review{request(create, csi, "persistentvolumes pv-1"), request(create, account("kube-system", "statefulset-controller"), "persistentvolumeclaims team-a/data")},
		},
	}
	p := mustNew(t, exempt.Options{})
	s := newAPIServer(p, exempt.PolicyEntry)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, r := range tc.exempt {
				if verdict(t, p, s, exempt.PolicyEntry, r) {
					t.Errorf("%s reaches the webhook", describe(r))
				}
			}
			for _, r := range tc.reaches {
				if !verdict(t, p, s, exempt.PolicyEntry, r) {
					t.Errorf("%s does not reach the webhook", describe(r))
				}
			}
		})
	}
}
