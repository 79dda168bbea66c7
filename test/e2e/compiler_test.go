package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// regoTemplate is a template of this kind with this Rego.
func regoTemplate(kind, rego string) string {
	return fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd: {spec: {names: {kind: %s}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      %s
`, strings.ToLower(kind), kind, strings.ReplaceAll(strings.TrimSpace(rego), "\n", "\n      "))
}

// doubling is Rego in which each of n steps uses the one before twice: line is
// formatted with the step and the one before.
func doubling(n int, first, line, last string) string {
	var b strings.Builder
	b.WriteString("package bomb\n" + first + "\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, line+"\n", i, i-1)
	}
	b.WriteString(last + "\n")
	return b.String()
}

// compilerBombs are a few hundred bytes each, and would take OPA's compiler hours.
var compilerBombs = map[string]string{
	"BombShared": doubling(15, "x0 := [input.review.object.metadata.name]", "x%[1]d := [x%[2]d,x%[2]d]",
		`violation[{"msg": msg}] { y := [x14,x14]; y == x15; msg := "eq" }`),
	"BombFunctions": doubling(40, "f0(x) = [x, x]", "f%[1]d(x) = [f%[2]d(x), f%[2]d(x)]", `violation[{"msg": "m"}] { y := f40(1); y == f40(2) }`),
	"BombReplaced": doubling(24, "f0 { count([1]) == 1 }", "m%[1]d(x) = 1\nf%[1]d { f%[2]d with count as m%[1]d; f%[2]d }",
		`violation[{"msg": "m"}] { f24 }`),
	"BombNested": `package bomb
violation[{"msg": "m"}] { x := ` + strings.Repeat("[y | y := ", 40) + "1" + strings.Repeat("]", 40) + " }",
}

// TestTemplatesThatDoNotEnd stores templates that would keep a compiler busy for
// hours past validation, and wants each to have its own error, every other template
// to go on, and a process that starts beside them to become ready.
func TestTemplatesThatDoNotEnd(t *testing.T) {
	c := start(t)
	names := []string{"finebeside", "finelater"}
	for kind, rego := range compilerBombs {
		c.unvalidated(t, regoTemplate(kind, rego))
		names = append(names, strings.ToLower(kind))
	}
	t.Cleanup(func() {
		_, _, _ = c.CP.Kubectl(context.WithoutCancel(t.Context()), controlplane.Admin, "", append([]string{"delete", "--wait=false", "constrainttemplate"}, names...)...)
	})
	c.Must(t, fusegate.LabelTemplate("FineBeside", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "finebeside")
	for kind := range compilerBombs {
		c.awaitLimit(t, kind, c.Manager.Name)
	}
	for kind, rego := range compilerBombs {
		_, stderr, ok := c.Kubectl(t, controlplane.Admin, regoTemplate(kind, rego)+"\n      # again\n", "replace", "-f", "-")
		if ok && !strings.Contains(stderr, "is not validated: the compiler gave no answer in time") ||
			!ok && !strings.Contains(stderr, "rego_limit_error") {
			t.Errorf("%s with validation: got %q, want the limit", kind, stderr)
		}
	}

	t.Run("a process that starts", func(t *testing.T) {
		m := c.Run(t, "beside", env.FreePort(t))
		m.AwaitReady(t)
		for kind := range compilerBombs {
			c.awaitLimit(t, kind, m.Name)
		}
		// The last template may have been one of them, and have ended the compiler.
		c.Must(t, fusegate.LabelTemplate("FineLater", "absent"), "apply", "-f", "-")
		c.AwaitTemplate(t, "finelater")
		child := compilerOf(t, m)
		if err := m.End(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		env.Await(t, "its compiler to end", func() error {
			if _, err := os.Stat(child); err == nil {
				return fmt.Errorf("%s is there", child)
			}
			return nil
		})
	})
	t.Run("a compiler that is killed", func(t *testing.T) {
		var pid int
		if _, err := fmt.Sscanf(compilerOf(t, c.Manager), "/proc/%d", &pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.Must(t, fusegate.LabelTemplate("FineLater", "lacking"), "apply", "-f", "-")
		generation := c.Get(t, "constrainttemplate/finelater").GetGeneration()
		c.Await(t, "constrainttemplate/finelater", "it to be compiled anew", func(u *unstructured.Unstructured) error {
			s := fusegate.StatusOf(t, u)
			for _, e := range s.ByPod {
				if e.ID == c.Manager.Name && e.ObservedGeneration >= generation && len(e.Errors) == 0 {
					return s.Condition("Ready", "True", "")
				}
			}
			return fmt.Errorf("got %+v", s)
		})
	})
}

// awaitLimit returns once a pod says of the template that it exceeds a limit, by its
// name and with what to do.
func (c *testCluster) awaitLimit(t *testing.T, kind, pod string) {
	t.Helper()
	name := strings.ToLower(kind)
	c.Await(t, "constrainttemplate/"+name, name+" to have an error of "+pod, func(u *unstructured.Unstructured) error {
		s := fusegate.StatusOf(t, u)
		for _, e := range s.ByPod {
			if e.ID != pod || len(e.Errors) != 1 {
				continue
			}
			got := e.Errors[0]
			if got.Code != "rego_limit_error" || !strings.HasPrefix(got.Message, fmt.Sprintf("ConstraintTemplate %q: its Rego takes more than ", name)) ||
				!strings.Contains(got.Message, "; simplify its Rego") {
				return fmt.Errorf("got %+v", got)
			}
			return s.Condition("Ready", "False", "CompileError")
		}
		return fmt.Errorf("got %+v", s)
	})
}

// compilerOf is the folder in /proc of a manager's compiler, which it starts anew
// when a template has ended it and another one comes.
func compilerOf(t *testing.T, m *fusegate.Manager) (folder string) {
	t.Helper()
	parent := fmt.Sprintf("\nPPid:\t%d\n", m.Cmd.Process.Pid)
	env.Await(t, "the compiler of "+m.Name, func() error {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, file := range files {
			line, _ := os.ReadFile(file) // a process may have ended
			if !strings.Contains(string(line), "\x00compiler\x00") {
				continue
			}
			if status, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "status")); strings.Contains(string(status), parent) {
				folder = filepath.Dir(file)
				return nil
			}
		}
		return errors.New("it has none")
	})
	return folder
}
