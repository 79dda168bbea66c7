package app

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// TestExitCodes runs the command as scripts do, and wants what is refused told
// from what failed. The words are those of TestRefusals.
func TestExitCodes(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, file string
		args         []string
		code         int
		say          string // part of standard error
	}{
		"done":             {reason: "nothing is wrong", args: []string{"manifests"}, code: exitOK},
		"fail closed":      {reason: "the one setting that there is not", file: "failurePolicy: Fail", args: []string{"install"}, code: exitRefused, say: "failurePolicy Ignore"},
		"fail closed flag": {reason: "the same as a flag", args: []string{"install", "--failure-policy=Fail"}, code: exitRefused, say: "failurePolicy Ignore"},
		"long timeout":     {reason: "3 s at most", args: []string{"install", "--timeout-seconds=4"}, code: exitRefused, say: "timeoutSeconds: 4: use 1 to 3"},
		"own namespace":    {reason: "kube-system is not Fusegate's", args: []string{"manifests", "--namespace=kube-system"}, code: exitRefused, say: "reserved for Kubernetes"},
		"all exempt":       {reason: "a perimeter around everything is none", file: `exempt: {namespaces: ["*"]}`, args: []string{"install"}, code: exitRefused, say: "would exempt every namespace"},
		"system judged":    {reason: "the perimeter cannot be narrowed", file: "exempt: {includeNamespaces: [kube-system]}", args: []string{"install"}, code: exitRefused, say: "to guard kube-system itself use a ValidatingAdmissionPolicy"},
		"no selector":      {reason: "by no other name either", file: "namespaceSelector: {}", args: []string{"serve"}, code: exitRefused, say: "can only be widened"},
		"unknown key":      {reason: "a typing error is put right and tried again", file: "timeoutSecond: 2", args: []string{"install"}, code: exitError, say: "unknown key"},
		"unknown flag":     {reason: "the same", args: []string{"install", "--nosuch"}, code: exitError, say: "unknown flag"},
		"no cluster":       {reason: "it may be there later", args: []string{"install", "--kubeconfig=none"}, code: exitError, say: "finding the cluster"},
		"no time to wait":  {reason: "it cannot be meant", args: []string{"install", "--timeout=0s"}, code: exitError, say: "--timeout: 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			args := tc.args
			if tc.file != "" {
				args = append(args, "--config="+configuration(t, tc.file))
			}
			var stderr strings.Builder
			cmd := command(args...)
			cmd.Stderr = &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tc.code || !strings.Contains(stderr.String(), tc.say) {
				t.Errorf("%s: got exit code %d and %q, want %d and %q", tc.reason, got, stderr.String(), tc.code, tc.say)
			}
		})
	}
	for _, args := range [][]string{{"--help"}, {"install", "--help"}, {"uninstall", "--help"}} {
		out, err := command(args...).Output()
		if err != nil || !strings.Contains(string(out), "Exit codes: 0 ") {
			t.Errorf("%v: got %v and %q, want the exit codes explained", args, err, out)
		}
	}
}
