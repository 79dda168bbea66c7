package install

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TakenBack lists what the installation in the cluster exempts and cfg does
// not, each as "field value": what a run with another configuration file, or
// with none, would quietly put under policy. It is empty where nothing is
// installed or what is installed cannot be read as a Config.
func TakenBack(ctx context.Context, c client.Reader, cfg Config) ([]string, error) {
	cfg = cfg.withDefaults()
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	live, err := get(ctx, c, Ref{GroupVersionKind: kind, Namespace: cfg.Namespace, Name: ConfigMapName})
	if live == nil || err != nil {
		return nil, err
	}
	text, _, _ := unstructured.NestedString(live.Object, "data", ConfigKey)
	was, err := ParseConfig([]byte(text))
	if err == nil {
		return takenBack(was, cfg), nil
	}
	return nil, nil
}

func takenBack(was, now Config) []string {
	var out []string
	for _, list := range []struct {
		field    string
		old, now []string
	}{
		{"namespaces", was.Exempt.Namespaces, now.Exempt.Namespaces},
		{"users", was.Exempt.Users, now.Exempt.Users},
		{"groups", was.Exempt.Groups, now.Exempt.Groups},
		{"serviceAccounts", was.Exempt.ServiceAccounts, now.Exempt.ServiceAccounts},
		{"controllers", was.Exempt.Controllers, now.Exempt.Controllers},
		{"ownServiceAccounts", was.Exempt.OwnServiceAccounts, now.Exempt.OwnServiceAccounts},
		{"provider", []string{was.Exempt.Provider}, []string{now.Exempt.Provider, ""}}, // "" is none
	} {
		for _, v := range list.old {
			if !slices.Contains(list.now, v) {
				out = append(out, fmt.Sprintf("%s %q", list.field, v))
			}
		}
	}
	return out
}
