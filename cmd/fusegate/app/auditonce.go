package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/catalog"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/inventory"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policies"
)

// auditFlags are the flags of fusegate audit.
type auditFlags struct {
	cluster            *genericclioptions.ConfigFlags
	constraints        []string
	files, kustomize   []string
	namespace          string
	limit, workers     int
	qps                float32
	secrets            bool
	denyOnly           bool
	acceptNotAuditable bool
	notes              notes
	format             func() (output.Format, error)
}

const auditExamples = `  # What in this cluster violates the policies in it
  fusegate audit

  # What would violate policies that are not applied yet
  fusegate audit -f policies/ --context production

  # By two constraints only
  fusegate audit --constraint RequiredLabels/owner --constraint AllowedRegistries/ours

  # For a program
  fusegate audit -o json --limit 0`

func newAudit() *cobra.Command {
	f := &auditFlags{cluster: genericclioptions.NewConfigFlags(true)}
	f.cluster.Namespace, f.cluster.CacheDir = nil, nil // an audit is of a cluster, and asks it anew
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Judge what exists in a cluster, once and from outside",
		Long: `Lists every object that a constraint matches, judges it, and prints what was
found, and what could not be looked at. Nothing is written to the cluster, and
Fusegate need not run in it.

Judged is by the templates and constraints of the cluster or, with -f or -k, by
the constraints of those files instead; templates that they lack are taken from
the cluster. Objects in exempt namespaces are counted apart, as nothing can be
enforced on them.

` + offlineCodes + `
Constraints whose policy reads what only a request has (userInfo, operation,
oldObject) cannot be audited and count as such, unless --accept-not-auditable.`,
		Example: auditExamples,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	f.cluster.AddFlags(flags)
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "file or folder with templates and constraints to judge by instead of the cluster's; - is standard input; may be repeated")
	flags.StringArrayVarP(&f.kustomize, "kustomize", "k", nil, "folder with a kustomization of templates and constraints; may be repeated")
	flags.IntVar(&f.limit, "limit", audit.DefaultLimit, "violations to list of a constraint; 0 lists all")
	flags.IntVar(&f.workers, "workers", audit.DefaultWorkers, "objects to judge at a time")
	flags.Float32Var(&f.qps, "qps", audit.DefaultQPS, "requests to the API server in a second, of which a page of objects is one")
	flags.StringVar(&f.namespace, "fusegate-namespace", exempt.DefaultNamespace, "namespace in which Fusegate runs and has its settings, which say what is exempt")
	flags.BoolVar(&f.secrets, "inventory-secrets", false, "let policies that look at other objects see Secrets")
	flags.BoolVar(&f.denyOnly, "deny-only", false, "leave out constraints that do not deny")
	flags.BoolVar(&f.acceptNotAuditable, "accept-not-auditable", false, "do not fail for constraints that cannot be audited")
	flags.StringArrayVar(&f.constraints, "constraint", nil, "judge by this constraint only, KIND/NAME; may be repeated")
	complete(cmd, f.completions())
	f.format = formatFlag(cmd, output.Formats())
	offline(cmd)
	return cmd
}

func (f *auditFlags) run(cmd *cobra.Command) error {
	format, err := f.format()
	if err != nil {
		return err
	}
	if f.limit < 0 || f.workers < 1 || f.qps <= 0 {
		return errors.New("--limit cannot be negative, and --workers and --qps must be positive")
	}
	cfg, err := f.config()
	if err != nil {
		return err
	}
	frugal()
	found, err := f.audit(cmd, cfg)
	if err != nil {
		return err
	}
	f.notes.show(cmd.ErrOrStderr())
	return f.print(cmd, found, format)
}

// print writes what was found, and says by the exit code what that comes to: a
// partial audit is never clean, and never merely violated.
func (f *auditFlags) print(cmd *cobra.Command, found output.Audit, format output.Format) error {
	found.Version = version
	printProblems(cmd, found.Problems)
	if err := output.Write(cmd.OutOrStdout(), found, format, styleOf(cmd.OutOrStdout())); err != nil {
		return err
	}
	switch {
	case !found.Complete:
		return exit{code: exitBroken}
	case found.Violations() > 0:
		return exit{code: exitError}
	}
	return nil
}

func (f *auditFlags) config() (*rest.Config, error) {
	cfg, err := f.cluster.ToRESTConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("finding the cluster: there is no kubeconfig, or it is empty; name one with --kubeconfig or in KUBECONFIG")
	}
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	cfg.UserAgent = "fusegate/" + version
	cfg.QPS, cfg.Burst = f.qps, int(2*f.qps)+1
	return cfg, nil
}

// audit collects the policies, gives them what they read, and judges by them.
func (f *auditFlags) audit(cmd *cobra.Command, cfg *rest.Config) (output.Audit, error) {
	e, err := engine.New()
	if err != nil {
		return output.Audit{}, err
	}
	c := offlineCompiler()
	defer c.Close()
	e.CompileBy(c)
	e.AwaitInventory()
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return output.Audit{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	served, err := catalog.New(cfg)
	if err != nil {
		return output.Audit{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	set, err := f.policies(cmd, dyn)
	if err != nil {
		return output.Audit{}, err
	}
	if err := set.Keep(f.constraints); err != nil {
		return output.Audit{}, err
	}
	asked := audit.Asked{DenyOnly: f.denyOnly, AcceptNotAuditable: f.acceptNotAuditable}
	asked.Constraints, asked.Problems = set.Load(cmd.Context(), e)
	p := newProgress(cmd.ErrOrStderr())
	defer p.end()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	done, err := f.fillInventory(ctx, served, dyn, e, p)
	if err != nil {
		return output.Audit{}, err
	}
	result, err := audit.Once(ctx, audit.Options{
		Config: cfg, Discovery: served, Reviewer: e, Perimeter: f.perimeter(ctx, cfg), Limit: f.listed(), Workers: f.workers, QPS: f.qps,
		Progress: func(n audit.Progress) { p.say("%d objects judged, %d of %d kinds read", n.Objects, n.Read, n.Kinds) },
	})
	cancel()
	<-done
	return result.Output(asked), err
}

func (f *auditFlags) listed() int {
	if f.limit == 0 {
		return -1
	}
	return f.limit
}

// policies are those of the files, with what they lack, or those of the cluster.
func (f *auditFlags) policies(cmd *cobra.Command, dyn dynamic.Interface) (*policies.Set, error) {
	set := &policies.Set{Note: f.notes.add}
	in := manifest.Options{Paths: f.files, Kustomize: f.kustomize, Stdin: cmd.InOrStdin(), Note: f.notes.add}
	for o, err := range manifest.Read(cmd.Context(), in) {
		p := output.Problem{}
		switch {
		case errors.As(err, &p):
			set.Problem(p)
		case err != nil:
			return nil, err
		case !set.Add(o):
			f.notes.add(output.Problem{File: o.File, Line: o.Line, Err: fmt.Errorf("%s is no template and no constraint, and has no part in an audit", manifest.Name(o.Unstructured))})
		}
	}
	if len(f.files)+len(f.kustomize) > 0 && len(set.Kinds()) == 0 {
		set.Problem(output.Problem{File: "-f, -k", Err: errors.New("there is no constraint in these files, so that there is nothing to judge by")})
		return set, nil
	}
	return set, set.AddCluster(cmd.Context(), dyn)
}

// fillInventory has policies that look at other objects see them, or says why
// they do not. The channel is closed once nothing of it runs any more.
func (f *auditFlags) fillInventory(ctx context.Context, served *catalog.Catalog, dyn dynamic.Interface, e *engine.Engine, p *progress) (<-chan struct{}, error) {
	done := make(chan struct{})
	if len(e.InventoryNeeds()) == 0 {
		close(done)
		return done, nil
	}
	i, err := inventory.New(inventory.Options{
		Client: dyn, Discovery: served, Engine: e, Secrets: f.secrets,
		ConfigNamespaces: []string{f.namespace, "gatekeeper-system"},
	})
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(done)
		_ = i.Start(ctx) // which returns nil
	}()
	err = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(context.Context) (bool, error) {
		waiting := i.Err()
		if waiting != nil {
			p.say("%v", waiting)
		}
		return waiting == nil, nil
	})
	return done, err
}

// perimeter is what the installation in the cluster says is exempt, or what is
// exempt in any case.
func (f *auditFlags) perimeter(ctx context.Context, cfg *rest.Config) exempt.Perimeter {
	p, err := f.configured(ctx, cfg)
	if err != nil {
		f.notes.add(output.Problem{File: policies.Cluster, Err: fmt.Errorf("exempt namespaces are those that always are: %w", err)})
	}
	return p
}

func (f *auditFlags) configured(ctx context.Context, cfg *rest.Config) (exempt.Perimeter, error) {
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		return exempt.Perimeter{}, err
	}
	m := &corev1.ConfigMap{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: install.ConfigMapName}, m); err != nil {
		return exempt.Perimeter{}, fmt.Errorf("reading the settings: %w", err)
	}
	s, err := config.Parse([]byte(m.Data[install.ConfigKey]))
	if err != nil {
		return exempt.Perimeter{}, err
	}
	return s.Perimeter()
}
