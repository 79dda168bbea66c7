package exempt

import (
	"cmp"

	"github.com/fusegate/fusegate/pkg/policy"
)

// rule is one reason for a request to be outside policy.
type rule struct {
	// condition names the matchCondition that the rule is rendered as. The
	// names are part of what is installed: metrics and people refer to them.
	condition string
	exempts   predicate
	// what says what is exempt, and subject who or what it is in a request.
	what    string
	subject func(*policy.Review) string
}

// The identities of the control plane, as Kubernetes fixes them
// (k8s.io/apiserver pkg/authentication/user/user.go, k8s.io/cluster-bootstrap
// token/api/types.go). Who may impersonate one of them is exempt as well: the
// API server shows the effective user only.
var (
	systemUsers = []string{"system:apiserver", "system:kube-scheduler"}

	controllerUsers = []string{
		"system:addon-manager", "system:cloud-controller-manager",
		"system:kube-controller-manager", "system:kube-proxy",
	}

	// A group or a prefix alone can be an identity provider's mistake.
	nodes              = all{affix{field: username, prefix: "system:node:"}, member{[]string{nodesGroup}}}
	bootstrappingNodes = all{affix{field: username, prefix: "system:bootstrap:"}, member{[]string{bootstrappersGroup}}}
)

const (
	nodesGroup         = "system:nodes"
	bootstrappersGroup = "system:bootstrappers"
	kubeSystemGroup    = "system:serviceaccounts:kube-system"
	accountPrefix      = "system:serviceaccount:"
)

// common are the rules that hold for every entry.
func (o Options) common() []rule {
	rules := []rule{
		{"not-system-namespace", o.inExemptNamespace(), "namespace", namespaceName},
		{"not-system-user", oneOf{username, systemUsers}, "system user", username.get},
		{"not-node", nodes, "node", username.get},
		{"not-bootstrapping-node", bootstrappingNodes, "bootstrapping node", username.get},
		{"not-fusegate", all{oneOf{username, o.ownUsers()}, not(canary)}, "Fusegate's account", username.get},
		{"not-controller-except-workloads", all{o.controllers(), not(createsWorkload)}, "controller", username.get},
		{"not-critical-resource", all{criticalResources.predicate(), not(bindsByOldWay)}, "critical resource", resourceName},
		{"not-critical-subresource", criticalSubresources, "critical subresource", resourceName},
	}
	if users := o.exemptUsers(); len(users) > 0 {
		rules = append(rules, rule{"not-exempt-user", oneOf{username, users}, "exempt user", username.get})
	}
	if groups := sorted(o.Groups); len(groups) > 0 {
		rules = append(rules, rule{"not-exempt-group", member{groups}, "user in an exempt group", username.get})
	}
	return rules
}

// inExemptNamespace holds for what lives in an exempt namespace and for the
// Namespace itself. The API server gives requests for a Namespace its own name
// as namespace, so the second half says only once more, by name, what the
// namespaceSelector leaves to the object's labels.
func (o Options) inExemptNamespace() predicate {
	return some{
		o.namespaced(namespace),
		all{oneOf{group, []string{""}}, oneOf{resource, []string{"namespaces"}}, o.namespaced(name)},
	}
}

func (o Options) namespaced(f field) predicate {
	exact, globs := o.namespaces()
	out := some{oneOf{f, exact}}
	for _, g := range globs {
		out = append(out, g.predicate(f))
	}
	return out
}

// controllers are those who write on a tenant's behalf: what they create for
// the tenant is judged, all else they do is not.
func (o Options) controllers() predicate {
	accounts := predicate(affix{field: username, prefix: accountPrefix + "kube-system:"})
	if o.KubeSystemAccounts == ControllerManagerOnly {
		accounts = oneOf{username, users("kube-system", controllerManagerAccounts)}
	}
	out := some{oneOf{username, controllerUsers}, all{accounts, member{[]string{kubeSystemGroup}}}}
	for _, prefix := range providers[o.Provider] {
		out = append(out, affix{field: username, prefix: prefix})
	}
	if extra := sorted(o.Controllers); len(extra) > 0 {
		out = append(out, oneOf{username, extra})
	}
	return out
}

func namespaceName(r *policy.Review) string { return cmp.Or(r.Namespace, r.Name) }

func resourceName(r *policy.Review) string {
	s := r.Resource.GroupResource().String()
	if r.SubResource == "" {
		return s
	}
	return s + "/" + r.SubResource
}
