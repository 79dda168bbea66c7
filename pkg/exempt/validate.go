package exempt

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Bounds of what Options may hold.
const (
	maxValues = 64
	maxLength = 256
)

// Namespace globs hold at least one character that is not a dash, lest "-*"
// or "*-" exempt what nobody meant.
var namespaceGlob = regexp.MustCompile(`^(\*[a-z0-9-]*[a-z0-9]|[a-z0-9][a-z0-9-]*\*)$`)

const (
	administrators    = "it is the people who administer the cluster, and policy is made for people; exempt the one account or namespace that needs it"
	alreadyController = "it is outside policy already, except when it creates workloads, which must stay judged; leave it out"
)

// refusedUsers are users who must not be exempt altogether, and why.
var refusedUsers = map[string]string{
	"kubernetes-admin":       administrators,
	"system:admin":           administrators,
	"system:anonymous":       "it is everybody who does not authenticate; exempt the one account that needs it",
	"system:unauthenticated": "it is everybody who does not authenticate; exempt the one account that needs it",
}

// refusedGroups are groups that must not be exempt, and why.
var refusedGroups = map[string]string{
	"system:masters":         administrators,
	"kubeadm:cluster-admins": administrators,
	"system:authenticated":   "everybody is in it, so nothing would be judged; exempt the one account that needs it",
	"system:unauthenticated": "everybody who does not authenticate is in it; exempt the one account that needs it",
	"system:serviceaccounts": "every service account is in it; name the one account under serviceAccounts",
	nodesGroup:               "nodes are outside policy already, by group and user name both, so that the group alone, an identity provider's mistake, exempts nobody; leave it out",
	bootstrappersGroup:       "bootstrapping nodes are outside policy already, by group and user name both; leave it out",
	kubeSystemGroup:          alreadyController,
}

func (o Options) validate() error {
	return errors.Join(
		each("namespaces", o.Namespaces, checkNamespace),
		each("users", o.Users, checkUser),
		each("groups", o.Groups, checkGroup),
		each("serviceAccounts", o.ServiceAccounts, o.checkAccount),
		each("controllers", o.Controllers, checkController),
		each("ownServiceAccounts", o.OwnServiceAccounts, checkAccountName),
		named("ownNamespace", o.OwnNamespace, checkOwnNamespace),
		named("provider", o.Provider, checkProvider),
		named("kubeSystemAccounts", string(o.KubeSystemAccounts), checkKubeSystemAccounts),
	)
}

// each checks every value of a list and joins what is wrong with them.
func each(field string, values []string, check func(string) string) error {
	if len(values) > maxValues {
		return fmt.Errorf("%s: %d values, at most %d are possible; use a namespace glob or a group instead of single names", field, len(values), maxValues)
	}
	var errs []error
	for i, v := range values {
		errs = append(errs, named(fmt.Sprintf("%s[%d]", field, i), v, check))
	}
	return errors.Join(errs...)
}

func named(field, value string, check func(string) string) error {
	if problem := check(value); problem != "" {
		return fmt.Errorf("%s: %q: %s", field, value, problem)
	}
	return nil
}

func checkNamespace(v string) string {
	switch {
	case v == "":
		return "is empty; name a namespace or leave the line out"
	case strings.Trim(v, "*") == "":
		return "would exempt every namespace; name those that need it"
	case !strings.Contains(v, "*"):
		return checkLabel(v)
	case len(v) > validation.DNS1123LabelMaxLength || !namespaceGlob.MatchString(v):
		return `is not a namespace glob; "*" may stand once, at the start or at the end, beside lower-case letters, digits and dashes, as in "team-*" or "*-system"`
	}
	return ""
}

func checkLabel(v string) string {
	if problems := validation.IsDNS1123Label(v); len(problems) > 0 {
		return "is not the name of a namespace: " + problems[0]
	}
	return ""
}

func checkOwnNamespace(v string) string {
	if v == "default" {
		return "tenants use it, and all of it would be outside policy; give Fusegate a namespace of its own"
	}
	return checkLabel(v)
}

func checkUser(v string) string {
	if why, ok := refusedUsers[v]; ok {
		return why
	}
	if slices.Contains(controllerUsers, v) {
		return alreadyController
	}
	if strings.HasPrefix(v, accountPrefix) {
		return "is a service account; name it under serviceAccounts as namespace/name"
	}
	return checkText(v)
}

func checkController(v string) string {
	if why, ok := refusedUsers[v]; ok {
		return why
	}
	return checkText(v)
}

func checkGroup(v string) string {
	if why, ok := refusedGroups[v]; ok {
		return why
	}
	return checkText(v)
}

func checkText(v string) string {
	switch {
	case v == "":
		return "is empty; give a name or leave the line out"
	case strings.Contains(v, "*"):
		return `holds a "*", but only namespaces take globs; give the exact name`
	case len(v) > maxLength:
		return fmt.Sprintf("is %d bytes long, at most %d are possible", len(v), maxLength)
	case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
		return "holds characters that no user name has; give the name as the audit log shows it"
	case strings.TrimSpace(v) != v:
		return "starts or ends with a space; give the exact name"
	}
	return ""
}

func (o Options) checkAccount(v string) string {
	ns, account, ok := strings.Cut(v, "/")
	switch {
	case !ok:
		return "is not a service account; write namespace/name"
	case strings.Contains(v, "*"):
		return `holds a "*", but only namespaces take globs; name the account, or its namespace's group system:serviceaccounts:<namespace> under groups`
	case checkLabel(ns) != "":
		return checkLabel(ns)
	case ns == "kube-system":
		return alreadyController
	}
	return checkAccountName(account)
}

func checkAccountName(v string) string {
	if problems := validation.IsDNS1123Subdomain(v); len(problems) > 0 {
		return "is not the name of a service account: " + problems[0]
	}
	return ""
}

func checkProvider(v string) string {
	known := slices.Sorted(maps.Keys(providers))
	if v == "" || slices.Contains(known, v) {
		return ""
	}
	return "its control plane's identities are not known; use one of " + strings.Join(known, ", ") + ", or leave it out and list them, as the audit log shows them, under controllers"
}

func checkKubeSystemAccounts(v string) string {
	switch KubeSystemAccounts(v) {
	case AllAccounts, ControllerManagerOnly:
		return ""
	}
	return fmt.Sprintf("use %s or %s", AllAccounts, ControllerManagerOnly)
}
