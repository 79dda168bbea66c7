package app

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

func TestLastWords(t *testing.T) {
	inside := config.Config{Namespace: "policy"}
	first := []install.Change{{Action: install.Unchanged}, {Action: install.Created}}
	for name, tc := range map[string]struct{ reason, got, want string }{
		"in the cluster": {
			reason: "what to wait for", got: installOptions{}.installed(inside, first),
			want: "\nInstalled. The webhook intercepts nothing until its pods answer and there are constraints. To follow:\n  kubectl -n policy rollout status deployment/fusegate-webhook\n",
		},
		"outside": {
			reason: "what to start", got: installOptions{}.installed(config.Config{WebhookURL: "https://a"}, first),
			want: "\nInstalled. The webhook intercepts nothing until fusegate serve answers at https://a and there are constraints.\n",
		},
		"a second time": {
			reason: "it is no news", got: installOptions{}.installed(inside, []install.Change{{Action: install.Unchanged}}),
			want: "\nNothing to do: it is installed as it should be.\n",
		},
		"an upgrade": {
			reason: "policies are in force already", got: installOptions{}.installed(inside, []install.Change{{Action: install.Created}, {Action: install.Configured}}),
			want: "\nBrought up to date. The webhook's rules are the controller's, and stay in force meanwhile.\n",
		},
		"waited for": {
			reason: "nothing is left to do", got: installOptions{wait: true}.installed(inside, first),
			want: "\nInstalled. The webhook answers and is armed with what the constraints need.\n",
		},
		"restricted": {
			reason: "who reaches the port was proven", got: installOptions{}.installed(config.Config{WebhookSources: []string{"192.0.2.0/28"}}, first),
			want: "\nInstalled. The webhook is armed with what the constraints need, answers every API server, and only those from webhookSources.\n",
		},
		"nothing there":    {reason: "silence would look like success", got: removed(nil, false, false), want: "There is nothing of Fusegate in the cluster.\n"},
		"without policies": {reason: "what is left", got: removed(make([]install.Change, 1), false, false), want: "\nRemoved, except for templates and constraints; --delete-policies removes those too.\n"},
		"with policies":    {reason: "namespaces take their time", got: removed(make([]install.Change, 1), true, false), want: "\nRemoved. The namespace goes once it is empty.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestManifestsOfNetworkPolicy wants it as the last object, with a word that kubectl
// does not take it back, and no such word where there is none.
func TestManifestsOfNetworkPolicy(t *testing.T) {
	t.Setenv("FUSEGATE_CONFIG", "")
	const note = "kubectl apply does not take the NetworkPolicy back"
	stdout, stderr, err := execute(t, "manifests", "--webhook-sources=192.0.2.0/28")
	if last := stdout[strings.LastIndex(stdout, "\n---\n")+1:]; err != nil || !strings.Contains(stderr, note) || !strings.Contains(last, "# Apply this when") || !strings.Contains(last, "kind: NetworkPolicy") {
		t.Errorf("got error %v, note %q and as the last object %s", err, stderr, last)
	}
	if stdout, stderr, err = execute(t, "manifests"); err != nil || stderr != "" || strings.Contains(stdout, "kind: NetworkPolicy") {
		t.Errorf("without sources: got error %v, note %q, or a NetworkPolicy", err, stderr)
	}
}

// TestSettingsThatPodsMiss wants a word for those who think that a process's own
// setting in the file reaches the pods, and none about the others.
func TestSettingsThatPodsMiss(t *testing.T) {
	t.Setenv("FUSEGATE_CONFIG", configuration(t, "logLevel: debug\ncontext: a\nlisten: :9443\nroles: [webhook]\n"))
	_, stderr, err := execute(t, "manifests")
	if err != nil {
		t.Fatal(err)
	}
	want := "Note: listen is not passed on to what runs in the cluster: the Service and the probes of the Deployments name the ports.\n" +
		"Note: roles is not passed on to what runs in the cluster: each Deployment has its own.\n"
	if diff := cmp.Diff(want, stderr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
