package exempt_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestWidening makes sure that every option exempts what it says and no more.
func TestWidening(t *testing.T) {
	pod := func(user string, groups ...string) *policy.Review {
		return request(create, by(user, groups...), "pods team-a/web")
	}
	secret := func(user string, groups ...string) *policy.Review {
		return request(create, by(user, groups...), "secrets team-a/s")
	}
	in := func(what string) *policy.Review { return request(create, alice, what) }
	ci := account("ci", "deployer")
	cases := map[string]struct {
		reason  string
		options exempt.Options
		exempt  []*policy.Review
		judged  []*policy.Review
	}{
		"Namespaces": {
			reason:  "names, prefixes and suffixes, for what is in them and for themselves",
			options: exempt.Options{Namespaces: []string{"legacy", "calico-*", "*-addon"}},
			exempt: []*policy.Review{
				in("pods legacy/p"), in("namespaces legacy"), in("pods calico-system/p"), in("namespaces calico-system"),
				in("pods x-addon/p"), in("namespaces x-addon"), in("services/status legacy/s"), in("pods kube-system/p"),
			},
			judged: []*policy.Review{
				in("pods legacy-2/p"), in("pods calico/p"), in("pods addon/p"), in("pods x-addon-2/p"), in("namespaces my-calico-system"),
				in("clusterroles.rbac.authorization.k8s.io legacy"), in("persistentvolumes calico-x"), in("widgets.example.com x-addon"),
			},
		},
		"Users": {
			reason:  "exact names",
			options: exempt.Options{Users: []string{"vendor", `q"\`}},
			exempt:  []*policy.Review{pod("vendor"), secret(`q"\`)},
			judged:  []*policy.Review{pod("vendor2"), pod("Vendor"), pod("alice", "vendor")},
		},
		"Groups": {
			reason:  "exact names, of any of the user's groups",
			options: exempt.Options{Groups: []string{"platform", "on-call"}},
			exempt:  []*policy.Review{pod("alice", "x", "platform"), secret("bob", "on-call")},
			judged:  []*policy.Review{pod("platform"), pod("alice", "platforms"), pod("alice", manyGroups(4096, "platform")...)},
		},
		"GroupAmongMany": {
			reason:  "as many groups as are looked through",
			options: exempt.Options{Groups: []string{"platform"}},
			exempt:  []*policy.Review{pod("alice", manyGroups(4095, "platform")...), pod("system:node:n1", manyGroups(4095, "system:nodes")...)},
			judged:  []*policy.Review{pod("alice", manyGroups(4096, "platform")...), pod("system:node:n1", manyGroups(4096, "system:nodes")...)},
		},
		"ServiceAccounts": {
			reason:  "one account of one namespace",
			options: exempt.Options{ServiceAccounts: []string{"ci/deployer"}},
			exempt:  []*policy.Review{request(create, ci, "pods team-a/web"), request(remove, ci, "secrets team-a/s")},
			judged:  []*policy.Review{request(create, account("ci", "deployer-2"), "pods team-a/web"), request(create, account("ci2", "deployer"), "pods team-a/web")},
		},
		"Controllers": {
			reason:  "all but the workloads they create",
			options: exempt.Options{Controllers: []string{"vendor:controller"}},
			exempt:  []*policy.Review{secret("vendor:controller")},
			judged:  []*policy.Review{pod("vendor:controller"), secret("vendor:controller-2")},
		},
		"EKS": {
			reason:  "its control plane, all but the workloads it creates",
			options: exempt.Options{Provider: "eks"},
			exempt:  []*policy.Review{secret("eks:node-manager"), secret("eks:addon-manager")},
			judged:  []*policy.Review{pod("eks:node-manager"), secret("eks")},
		},
		"OwnNamespace": {
			reason:  "Fusegate is where it is installed, and nowhere else",
			options: exempt.Options{OwnNamespace: "guard", OwnServiceAccounts: []string{"installer"}},
			exempt: []*policy.Review{
				in("pods guard/p"), in("namespaces guard"), request(create, account("guard", "fusegate-webhook"), "secrets team-a/s"),
				request(create, account("guard", "installer"), "secrets team-a/s"),
			},
			judged: []*policy.Review{in("pods fusegate-system/p"), request(create, own, "secrets team-a/s"), request(create, account("guard", "default"), "secrets team-a/s")},
		},
		"ControllerManagerOnly": {
			reason:  "of kube-system's accounts, those of the controller managers",
			options: exempt.Options{KubeSystemAccounts: exempt.ControllerManagerOnly},
			exempt: []*policy.Review{
				request(update, account("kube-system", "deployment-controller"), "replicasets.apps team-a/r"),
				request(update, account("kube-system", "cloud-controller-manager"), "services team-a/s"), request(update, manager, "services team-a/s"),
				request(update, account("kube-system", "coredns"), "configmaps kube-system/coredns"),
			},
			judged: []*policy.Review{
				request(update, account("kube-system", "coredns"), "configmaps team-a/c"),
				request(create, account("kube-system", "replicaset-controller"), "pods team-a/"),
				request(update, by("system:serviceaccount:kube-system:deployment-controller"), "replicasets.apps team-a/r"),
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := mustNew(t, tc.options)
			s := newAPIServer(p, exempt.PolicyEntry)
			for _, r := range tc.exempt {
				if verdict(t, p, s, exempt.PolicyEntry, r) {
					t.Errorf("%s: %s reaches the webhook", tc.reason, describe(r))
				}
			}
			for _, r := range tc.judged {
				if !verdict(t, p, s, exempt.PolicyEntry, r) {
					t.Errorf("%s: %s does not reach the webhook", tc.reason, describe(r))
				}
			}
		})
	}
}

func manyGroups(n int, last string) []string {
	return append(slices.Repeat([]string{"g"}, n), last)
}

func TestNewRefuses(t *testing.T) {
	cases := map[string]struct {
		options exempt.Options
		// want are what the error has to say: the field, the value, the fix.
		want []string
	}{
		"EmptyNamespace":       {exempt.Options{Namespaces: []string{"a", ""}}, []string{`namespaces[1]: ""`, "leave the line out"}},
		"EveryNamespace":       {exempt.Options{Namespaces: []string{"*"}}, []string{`namespaces[0]: "*"`, "every namespace"}},
		"EveryNamespaceTwice":  {exempt.Options{Namespaces: []string{"**"}}, []string{`namespaces[0]: "**"`, "every namespace"}},
		"NamespaceGlobMiddle":  {exempt.Options{Namespaces: []string{"a*b"}}, []string{`namespaces[0]: "a*b"`, "at the start or at the end"}},
		"NamespaceGlobTwice":   {exempt.Options{Namespaces: []string{"*a*"}}, []string{`"*a*"`, "once"}},
		"NamespaceGlobDash":    {exempt.Options{Namespaces: []string{"*-"}}, []string{`"*-"`, "team-*"}},
		"NamespaceGlobUpper":   {exempt.Options{Namespaces: []string{"Team*"}}, []string{`"Team*"`, "lower-case"}},
		"NamespaceGlobLong":    {exempt.Options{Namespaces: []string{strings.Repeat("a", 63) + "*"}}, []string{"namespaces[0]", "glob"}},
		"NamespaceName":        {exempt.Options{Namespaces: []string{"Team_A"}}, []string{`"Team_A"`, "not the name of a namespace"}},
		"EmptyUser":            {exempt.Options{Users: []string{""}}, []string{`users[0]: ""`, "give a name"}},
		"UserGlob":             {exempt.Options{Users: []string{"system:*"}}, []string{`users[0]: "system:*"`, "exact name"}},
		"UserAdmin":            {exempt.Options{Users: []string{"kubernetes-admin"}}, []string{`users[0]: "kubernetes-admin"`, "people"}},
		"UserAnonymous":        {exempt.Options{Users: []string{"system:anonymous"}}, []string{"system:anonymous", "authenticate"}},
		"UserController":       {exempt.Options{Users: []string{"system:kube-controller-manager"}}, []string{"system:kube-controller-manager", "workloads"}},
		"UserAccount":          {exempt.Options{Users: []string{"system:serviceaccount:ci:d"}}, []string{"users[0]", "serviceAccounts", "namespace/name"}},
		"UserLong":             {exempt.Options{Users: []string{strings.Repeat("u", 257)}}, []string{"users[0]", "257 bytes", "256"}},
		"UserControl":          {exempt.Options{Users: []string{"a\nb"}}, []string{`users[0]: "a\nb"`, "audit log"}},
		"UserEncoding":         {exempt.Options{Users: []string{"a\xff"}}, []string{"users[0]", "audit log"}},
		"UserSpace":            {exempt.Options{Users: []string{" a"}}, []string{`" a"`, "space"}},
		"GroupMasters":         {exempt.Options{Groups: []string{"system:masters"}}, []string{`groups[0]: "system:masters"`, "people"}},
		"GroupClusterAdmins":   {exempt.Options{Groups: []string{"kubeadm:cluster-admins"}}, []string{"kubeadm:cluster-admins", "people"}},
		"GroupAuthenticated":   {exempt.Options{Groups: []string{"system:authenticated"}}, []string{"system:authenticated", "everybody"}},
		"GroupUnauthenticated": {exempt.Options{Groups: []string{"system:unauthenticated"}}, []string{"system:unauthenticated", "everybody"}},
		"GroupAccounts":        {exempt.Options{Groups: []string{"system:serviceaccounts"}}, []string{"system:serviceaccounts", "every service account"}},
		"GroupKubeSystem":      {exempt.Options{Groups: []string{"system:serviceaccounts:kube-system"}}, []string{"workloads"}},
		"GroupNodes":           {exempt.Options{Groups: []string{"system:nodes"}}, []string{"system:nodes", "already"}},
		"GroupBootstrappers":   {exempt.Options{Groups: []string{"system:bootstrappers"}}, []string{"system:bootstrappers", "already"}},
		"GroupEmpty":           {exempt.Options{Groups: []string{""}}, []string{`groups[0]: ""`}},
		"GroupGlob":            {exempt.Options{Groups: []string{"*"}}, []string{`groups[0]: "*"`}},
		"AccountNoNamespace":   {exempt.Options{ServiceAccounts: []string{"deployer"}}, []string{`serviceAccounts[0]: "deployer"`, "namespace/name"}},
		"AccountEmptyName":     {exempt.Options{ServiceAccounts: []string{"ci/"}}, []string{`"ci/"`, "not the name of a service account"}},
		"AccountEmptyPlace":    {exempt.Options{ServiceAccounts: []string{"/x"}}, []string{`"/x"`, "not the name of a namespace"}},
		"AccountGlob":          {exempt.Options{ServiceAccounts: []string{"ci/*"}}, []string{`"ci/*"`, "system:serviceaccounts:<namespace>"}},
		"AccountKubeSystem":    {exempt.Options{ServiceAccounts: []string{"kube-system/coredns"}}, []string{"kube-system/coredns", "workloads"}},
		"AccountSlashes":       {exempt.Options{ServiceAccounts: []string{"a/b/c"}}, []string{`"a/b/c"`}},
		"ControllerEmpty":      {exempt.Options{Controllers: []string{""}}, []string{`controllers[0]: ""`}},
		"ControllerAdmin":      {exempt.Options{Controllers: []string{"kubernetes-admin"}}, []string{"controllers[0]", "people"}},
		"ControllerGlob":       {exempt.Options{Controllers: []string{"gke:*"}}, []string{`controllers[0]: "gke:*"`, "exact name"}},
		"OwnAccount":           {exempt.Options{OwnServiceAccounts: []string{"a/b"}}, []string{`ownServiceAccounts[0]: "a/b"`}},
		"OwnNamespaceDefault":  {exempt.Options{OwnNamespace: "default"}, []string{`ownNamespace: "default"`, "of its own"}},
		"OwnNamespaceGlob":     {exempt.Options{OwnNamespace: "fuse*"}, []string{`ownNamespace: "fuse*"`}},
		"Provider":             {exempt.Options{Provider: "gke"}, []string{`provider: "gke"`, "eks", "controllers"}},
		"KubeSystemAccounts":   {exempt.Options{KubeSystemAccounts: "None"}, []string{`kubeSystemAccounts: "None"`, "All", "ControllerManagerOnly"}},
		"TooMany":              {exempt.Options{Users: slices.Repeat([]string{"u"}, 65)}, []string{"users: 65 values", "64"}},
		"Several":              {exempt.Options{Users: []string{""}, Groups: []string{"*"}}, []string{"users[0]", "groups[0]"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := exempt.New(tc.options)
			if err == nil {
				t.Fatal("New() accepts it")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New() = %q, want it to say %q", err, want)
				}
			}
		})
	}
}

// TestKeepsItsOptions makes sure that writing to the options or to what the
// perimeter returns does not change it.
func TestKeepsItsOptions(t *testing.T) {
	o := exempt.Options{Namespaces: []string{"legacy"}, Users: []string{"u"}, Groups: []string{"g"}, ServiceAccounts: []string{"a/b"}}
	p := mustNew(t, o)
	want := p.MatchConditions(exempt.PolicyEntry)
	o.Namespaces[0], o.Users[0], o.Groups[0], o.ServiceAccounts[0] = "x", "x", "x", "x/x"
	p.MatchConditions(exempt.PolicyEntry)[0].Expression = "true"
	p.NamespaceSelector().MatchExpressions[0].Values[0] = "x"
	if diff := cmp.Diff(want, p.MatchConditions(exempt.PolicyEntry)); diff != "" {
		t.Errorf("MatchConditions() changed (-want +got):\n%s", diff)
	}
	if got := p.NamespaceSelector().MatchExpressions[0].Values; !slices.Contains(got, "legacy") || slices.Contains(got, "x") {
		t.Errorf("NamespaceSelector() changed: %v", got)
	}
}

func TestNamespaces(t *testing.T) {
	p := mustNew(t, exempt.Options{Namespaces: []string{"legacy", "calico-*"}, OwnNamespace: "guard"})
	for name, want := range map[string]bool{
		"": false, "default": false, "kube-system": true, "kube-public": true, "kube-node-lease": true, "guard": true,
		"fusegate-system": false, "legacy": true, "legacy2": false, "calico-system": true, "calico": false,
	} {
		if got := p.ExemptNamespace(name); got != want {
			t.Errorf("ExemptNamespace(%q) = %v, want %v", name, got, want)
		}
	}
	var zero exempt.Perimeter
	if !zero.ExemptNamespace("fusegate-system") || !zero.ExemptNamespace("kube-system") {
		t.Error("the zero Perimeter does not exempt the system namespaces")
	}
	if diff := cmp.Diff(mustNew(t, exempt.Options{}).MatchConditions(exempt.PolicyEntry), zero.MatchConditions(exempt.PolicyEntry)); diff != "" {
		t.Errorf("conditions of the zero Perimeter (-want +got):\n%s", diff)
	}
}

func TestEnforceable(t *testing.T) {
	cases := map[string]struct {
		resource    schema.GroupResource
		subresource string
		want        bool
	}{
		"Pods":           {schema.GroupResource{Resource: "pods"}, "", true},
		"Ephemeral":      {schema.GroupResource{Resource: "pods"}, "ephemeralcontainers", true},
		"Namespaces":     {schema.GroupResource{Resource: "namespaces"}, "", true},
		"ServiceStatus":  {schema.GroupResource{Resource: "services"}, "status", true},
		"PodStatus":      {schema.GroupResource{Resource: "pods"}, "status", false},
		"Nodes":          {schema.GroupResource{Resource: "nodes"}, "", false},
		"Leases":         {schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, "", false},
		"Requests":       {schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, "", false},
		"Constraints":    {schema.GroupResource{Group: "constraints.gatekeeper.sh", Resource: "k8srequiredlabels"}, "", false},
		"StorageClasses": {schema.GroupResource{Group: "storage.k8s.io", Resource: "storageclasses"}, "", true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := (exempt.Perimeter{}).Enforceable(tc.resource, tc.subresource); got != tc.want {
				t.Errorf("Enforceable(%s, %q) = %v, want %v", tc.resource, tc.subresource, got, tc.want)
			}
		})
	}
}

// FuzzOptions makes sure that what New accepts compiles, is judged alike by
// the API server, and lets an ordinary tenant's write through to the webhook.
func FuzzOptions(f *testing.F) {
	f.Add("team-*", "vendor", "platform", "ci/deployer", "vendor:controller", "guard")
	f.Add("*-system", `" || true || "`, `\`, "a/b.c", "\u2028", "fusegate-system")
	f.Add("a*b", "system:masters", "*", "a/b/c", "'", "x")
	f.Fuzz(func(t *testing.T, ns, user, group, sa, controller, own string) {
		p, err := exempt.New(exempt.Options{
			Namespaces: []string{ns}, Users: []string{user}, Groups: []string{group},
			ServiceAccounts: []string{sa}, Controllers: []string{controller}, OwnNamespace: own,
		})
		if err != nil {
			return
		}
		s := newAPIServer(p, exempt.PolicyEntry)
		for _, r := range []*policy.Review{
			request(create, by(user), "secrets 0/s"), request(create, by("", group), "secrets 0/s"),
			request(create, by(controller), "pods 0/p"), request(create, by(controller), "secrets 0/p"),
		} {
			verdict(t, p, s, exempt.PolicyEntry, r)
		}
		stranger := by(user+controller+"-", group+"-")
		if called := verdict(t, p, s, exempt.PolicyEntry, request(create, stranger, "secrets 0-0/s")); called == p.ExemptNamespace("0-0") {
			t.Errorf("a stranger's write reaches the webhook: %v", called)
		}
	})
}
