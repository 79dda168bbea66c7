package exempt

import (
	"slices"
	"strings"
)

// Options widen the perimeter. The zero value is ready to use. Every list
// takes at most 64 values, so that the conditions stay far within the API
// server's limits on the size and the cost of an expression.
type Options struct {
	// Namespaces are outside policy with all that is in them: a name, a
	// prefix followed by "*", or "*" followed by a suffix.
	Namespaces []string `json:"namespaces,omitempty"`
	// Users are outside policy, by exact name.
	Users []string `json:"users,omitempty"`
	// Groups are outside policy with all their members, by exact name.
	Groups []string `json:"groups,omitempty"`
	// ServiceAccounts are outside policy: namespace/name.
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Controllers are users, by exact name, who are outside policy except
	// when they create workloads (Pods, ReplicaSets, Jobs,
	// PersistentVolumeClaims, ResourceClaims). It is meant for control-plane
	// identities that a provider does not publish.
	Controllers []string `json:"controllers,omitempty"`
	// Provider adds the identities of a provider's control plane as
	// controllers: "eks", or empty for none.
	Provider string `json:"provider,omitempty"`
	// KubeSystemAccounts says which service accounts of kube-system are
	// controllers; empty means AllAccounts.
	KubeSystemAccounts KubeSystemAccounts `json:"kubeSystemAccounts,omitempty"`
	// OwnNamespace is where Fusegate runs; empty means DefaultNamespace.
	OwnNamespace string `json:"ownNamespace,omitempty"`
	// OwnServiceAccounts are Fusegate's service accounts in OwnNamespace, by
	// name, beside fusegate-controller and fusegate-webhook.
	OwnServiceAccounts []string `json:"ownServiceAccounts,omitempty"`
}

// DefaultNamespace is where Fusegate runs unless Options say otherwise.
const DefaultNamespace = "fusegate-system"

// KubeSystemAccounts is a choice of kube-system's service accounts.
type KubeSystemAccounts string

// The values of KubeSystemAccounts.
const (
	// AllAccounts are all service accounts of kube-system, so that add-ons
	// installed there come up while the webhook is down.
	AllAccounts KubeSystemAccounts = "All"
	// ControllerManagerOnly are those of the controller manager and the cloud
	// controller manager. The others are then judged in tenants' namespaces.
	ControllerManagerOnly KubeSystemAccounts = "ControllerManagerOnly"
)

// providers are the prefixes of the user names of providers' control planes.
// For EKS they are those of Falco's k8s_audit_rules.yaml, such as
// eks:node-manager. Providers that publish none are not guessed at.
var providers = map[string][]string{"eks": {"eks:"}}

// controllerManagerAccounts run the controllers of kube-controller-manager and
// cloud-controller-manager in kube-system, as of Kubernetes 1.36
// (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go).
var controllerManagerAccounts = []string{
	"attachdetach-controller", "certificate-controller", "cloud-controller-manager",
	"clusterrole-aggregation-controller", "cronjob-controller", "daemon-set-controller",
	"deployment-controller", "device-taint-eviction-controller", "disruption-controller",
	"endpoint-controller", "endpointslice-controller", "endpointslicemirroring-controller",
	"ephemeral-volume-controller", "expand-controller", "generic-garbage-collector",
	"horizontal-pod-autoscaler", "job-controller",
	"kube-apiserver-serving-clustertrustbundle-publisher",
	"legacy-service-account-token-cleaner", "namespace-controller", "node-controller",
	"persistent-volume-binder", "pod-garbage-collector", "podcertificaterequestcleaner",
	"podgroup-protection-controller", "pv-protection-controller", "pvc-protection-controller",
	"replicaset-controller", "replication-controller", "resource-claim-controller",
	"resourcepoolstatusrequest-controller", "resourcequota-controller", "root-ca-cert-publisher",
	"route-controller", "selinux-warning-controller", "service-account-controller",
	"service-cidrs-controller", "service-controller", "statefulset-controller",
	"storage-version-garbage-collector", "storage-version-migrator-controller",
	"ttl-after-finished-controller", "ttl-controller",
	"validatingadmissionpolicy-status-controller", "volumeattributesclass-protection-controller",
}

func (o Options) withDefaults() Options {
	if o.OwnNamespace == "" {
		o.OwnNamespace = DefaultNamespace
	}
	if o.KubeSystemAccounts == "" {
		o.KubeSystemAccounts = AllAccounts
	}
	return o
}

func (o Options) systemNamespaces() []string {
	return sorted([]string{"kube-node-lease", "kube-public", "kube-system", o.OwnNamespace})
}

// namespaces returns the exempt namespaces, sorted: those with exact names,
// and the others.
func (o Options) namespaces() (exact []string, globs []glob) {
	exact = o.systemNamespaces()
	for _, n := range sorted(o.Namespaces) {
		if strings.Contains(n, "*") {
			globs = append(globs, glob(n))
			continue
		}
		exact = append(exact, n)
	}
	return sorted(exact), globs
}

func (o Options) ownUsers() []string {
	own := append([]string{"fusegate-controller", "fusegate-webhook"}, o.OwnServiceAccounts...)
	return sorted(users(o.OwnNamespace, own))
}

func (o Options) exemptUsers() []string {
	out := slices.Clone(o.Users)
	for _, a := range o.ServiceAccounts {
		ns, account, _ := strings.Cut(a, "/")
		out = append(out, users(ns, []string{account})...)
	}
	return sorted(out)
}

// users returns the user names of service accounts of a namespace.
func users(namespace string, accounts []string) []string {
	out := make([]string, len(accounts))
	for i, a := range accounts {
		out[i] = accountPrefix + namespace + ":" + a
	}
	return out
}

// sorted returns a sorted copy without duplicates.
func sorted(in []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(in)))
}

// glob is a name with one "*" at its start or its end.
type glob string

func (g glob) predicate(f field) predicate {
	prefix, suffix, _ := strings.Cut(string(g), "*")
	return affix{field: f, prefix: prefix, suffix: suffix}
}
