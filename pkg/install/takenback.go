package install

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
)

// TakenBack compares the installation in the cluster with what c will make of
// it: what a run with another configuration file, or with none, would quietly
// put under policy or back to its default. unset is what applies where nothing
// is said; see config.Lost. There is no loss where nothing is installed; that
// the settings of the installation cannot be read is an error.
func TakenBack(ctx context.Context, reader client.Reader, c, unset config.Config) (config.Loss, error) {
	c = c.WithDefaults()
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	live, err := get(ctx, reader, Ref{GroupVersionKind: kind, Namespace: c.Namespace, Name: ConfigMapName})
	if live == nil || err != nil {
		return config.Loss{}, err
	}
	text, _, _ := unstructured.NestedString(live.Object, "data", ConfigKey)
	was, err := config.Parse([]byte(text))
	if err != nil {
		return config.Loss{}, fmt.Errorf("reading the settings in ConfigMap %s/%s: %w", c.Namespace, ConfigMapName, err)
	}
	return config.Lost(was, c, unset), nil
}
