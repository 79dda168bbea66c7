package app

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fusegate/fusegate/pkg/policies"
)

// completionTimeout bounds what completion asks a cluster: somebody waits with a
// finger on the key.
const completionTimeout = 3 * time.Second

// pluginName is how kubectl finds a plugin: kubectl fusegate runs it.
const pluginName = "kubectl-fusegate"

// asPlugin has help speak of "kubectl fusegate" when kubectl runs this binary.
func asPlugin(root *cobra.Command) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == pluginName {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fusegate"}
	}
}

// completion completes what is typed for a flag or an argument.
type completion = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// complete sets the completions of flags.
func complete(cmd *cobra.Command, of map[string]completion) {
	for flag, f := range of {
		if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
			panic(err) // a flag that there is not: a mistake in the code
		}
	}
}

// manifests completes files that hold objects, and folders.
func manifests(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
}

// folders completes folders.
func folders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completions are those of fusegate audit.
func (f *auditFlags) completions() map[string]completion {
	return map[string]completion{
		"filename": manifests, "kustomize": folders,
		"context":            f.kubeconfig(func(c clientcmdapi.Config) []string { return slices.Sorted(maps.Keys(c.Contexts)) }),
		"cluster":            f.kubeconfig(func(c clientcmdapi.Config) []string { return slices.Sorted(maps.Keys(c.Clusters)) }),
		"user":               f.kubeconfig(func(c clientcmdapi.Config) []string { return slices.Sorted(maps.Keys(c.AuthInfos)) }),
		"constraint":         f.live(constraintNames),
		"fusegate-namespace": f.live(namespaceNames),
	}
}

// kubeconfig completes names that the kubeconfig holds.
func (f *auditFlags) kubeconfig(names func(clientcmdapi.Config) []string) completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		raw, err := f.cluster.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names(raw), cobra.ShellCompDirectiveNoFileComp
	}
}

// live completes names that the cluster knows.
func (f *auditFlags) live(names func(context.Context, dynamic.Interface) ([]string, error)) completion {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		found, err := f.ask(ctx, names)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (f *auditFlags) ask(ctx context.Context, names func(context.Context, dynamic.Interface) ([]string, error)) ([]string, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return names(ctx, dyn)
}

func constraintNames(ctx context.Context, dyn dynamic.Interface) ([]string, error) {
	set := &policies.Set{}
	if err := set.AddCluster(ctx, dyn); err != nil {
		return nil, err
	}
	var out []string
	for _, c := range set.Constraints() {
		out = append(out, c.GetKind()+"/"+c.GetName())
	}
	if len(out) == 0 {
		return nil, errors.New("there is no constraint")
	}
	return out, nil
}

func namespaceNames(ctx context.Context, dyn dynamic.Interface) ([]string, error) {
	list, err := dyn.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].GetName())
	}
	return out, nil
}
