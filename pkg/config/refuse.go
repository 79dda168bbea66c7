package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// ErrFailurePolicy answers those who look for the one setting that is not there.
var ErrFailurePolicy = errors.New("failurePolicy is not a setting: Fusegate's webhooks always have failurePolicy Ignore, " +
	"since a webhook that fails closed can stop the control plane; for a rule that must never be skipped " +
	"use a ValidatingAdmissionPolicy, which runs inside the API server")

// ErrNarrower answers those who want policy to apply to what is the control
// plane's own.
var ErrNarrower = errors.New("what is exempt can only be widened: the control plane's own namespaces, users and resources are never judged, " +
	"since a policy that stops them can stop the cluster; to guard kube-system itself " +
	"use a ValidatingAdmissionPolicy, which runs inside the API server, and to exempt more use exempt")

// refuse explains why a key is no setting.
func refuse(key string) error {
	parent, name, nested := strings.Cut(key, ".")
	if !nested {
		parent, name = "", key
	}
	if strings.EqualFold(strings.NewReplacer("-", "", "_", "").Replace(name), "failurePolicy") {
		return ErrFailurePolicy
	}
	if narrows(name) {
		return fmt.Errorf("key %q: %w", key, ErrNarrower)
	}
	if nested && parent == "exempt" {
		return unknown(key, name, "exempt.", "the keys of exempt are", reflect.TypeFor[exempt.Options]())
	}
	return unknown(key, key, "", "the keys are", reflect.TypeFor[Config]())
}

// unknown names the key that is meant where only the case differs, and else all
// that there are.
func unknown(key, name, prefix, intro string, t reflect.Type) error {
	if meant := known(t, name); meant != "" {
		return fmt.Errorf("unknown key %q: write it %s", key, prefix+meant)
	}
	return fmt.Errorf("unknown key %q: %s %s", key, intro, strings.Join(keys(t), ", "))
}

// known is the key of t that has this name but for its case, or "".
func known(t reflect.Type, name string) string {
	all := keys(t)
	at := slices.IndexFunc(all, func(k string) bool { return strings.EqualFold(k, name) })
	if at < 0 {
		return ""
	}
	return all[at]
}

// narrows reports whether a name is one that other engines have for taking part
// in the choice of what policy applies to.
func narrows(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	return slices.ContainsFunc([]string{"selector", "matchcondition", "matchpolicy", "systemnamespace", "include", "judge", "enforceon"},
		func(part string) bool { return strings.Contains(name, part) })
}
