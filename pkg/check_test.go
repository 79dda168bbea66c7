package pkg_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// TestCheckReports feeds each rule a file that breaks it and one that does not:
// a rule that reports nothing would otherwise pass unseen.
func TestCheckReports(t *testing.T) {
	const (
		ours = module + "/"
		pkg  = "// Package p is a package.\npackage p\n"
	)
	cases := map[string]struct {
		reason string
		path   string
		source string
		// want is a part of each finding, in order.
		want []string
	}{
		"UpwardImport": {
			reason: "a value must not know the engine",
			path:   "pkg/policy/a.go",
			source: pkg + `import _ "` + ours + `pkg/engine"`,
			want:   []string{"pkg/policy/a.go:3: pkg/policy may not import pkg/engine, only [pkg/printable]"},
		},
		"DownwardImport": {
			reason: "the engine may know the values",
			path:   "pkg/engine/a.go",
			source: pkg + `import _ "` + ours + `pkg/policy"`,
		},
		"SidewaysImport": {
			reason: "two edges must not know each other",
			path:   "pkg/webhook/a.go",
			source: pkg + `import _ "` + ours + `pkg/audit"`,
			want:   []string{"pkg/webhook may not import pkg/audit"},
		},
		"CmdImportsAll": {
			reason: "cmd puts everything together",
			path:   "cmd/fusegate/app/a.go",
			source: "// Fusegate is a command.\npackage main\n" + `import _ "` + ours + `pkg/audit"`,
		},
		"ControlPlaneInCode": {
			reason: "the control plane is for tests",
			path:   "pkg/install/a.go",
			source: pkg + `import _ "` + ours + `test/controlplane"`,
			want:   []string{"pkg/install may not import test/controlplane", "the product does not carry what its tests stand on"},
		},
		"ControlPlaneInCmd": {
			reason: "not even what puts everything together has it",
			path:   "cmd/fusegate/app/a.go",
			source: pkg + `import _ "` + ours + `test/controlplane"`,
			want:   []string{"the product does not carry what its tests stand on"},
		},
		"ControlPlaneInHack": {
			reason: "the demo and the benches are not the product",
			path:   "hack/demo/a.go",
			source: pkg + `import _ "` + ours + `test/controlplane"`,
		},
		"ControlPlaneInTest": {
			reason: "any test may start a control plane and import what it tests",
			path:   "pkg/install/a_test.go",
			source: pkg + `import (_ "` + ours + `test/controlplane"; _ "` + ours + `pkg/install")`,
		},
		"UpwardImportInTest": {
			reason: "tests are held to the row as well",
			path:   "pkg/match/a_test.go",
			source: pkg + `import _ "` + ours + `pkg/webhook"`,
			want:   []string{"pkg/match may not import pkg/webhook"},
		},
		"NoRow": {
			reason: "a new package is a decision",
			path:   "pkg/mutate/a.go",
			source: pkg,
			want:   []string{"pkg/mutate: package has no row"},
		},
		"OPAElsewhere": {
			reason: "OPA stays in the driver",
			path:   "pkg/engine/a.go",
			source: pkg + `import _ "github.com/open-policy-agent/opa/v1/rego"`,
			want:   []string{"pkg/engine may not import github.com/open-policy-agent/opa/v1/rego"},
		},
		"OPAInTheDriver": {
			reason: "the driver is where OPA belongs",
			path:   "pkg/rego/a.go",
			source: pkg + `import _ "github.com/open-policy-agent/opa/v1/rego"`,
		},
		"OPANamesake": {
			reason: "a module that only starts like OPA's is not OPA",
			path:   "pkg/engine/a.go",
			source: pkg + `import _ "github.com/open-policy-agent/opa-envoy-plugin/plugin"`,
		},
		"CommandLineElsewhere": {
			reason: "flags and configuration are cmd's",
			path:   "pkg/doctor/a.go",
			source: pkg + `import (_ "flag"; _ "github.com/spf13/cobra"; _ "github.com/spf13/pflag"; _ "github.com/spf13/viper")`,
			want:   []string{"import flag", "import github.com/spf13/cobra", "import github.com/spf13/pflag", "import github.com/spf13/viper"},
		},
		"UpdateFlagInTest": {
			reason: "golden tests have an -update flag",
			path:   "pkg/install/a_test.go",
			source: pkg + `import _ "flag"`,
		},
		"ClusterInPureCode": {
			reason: "pure packages talk to no cluster",
			path:   "pkg/exempt/a.go",
			source: pkg + `import (_ "k8s.io/client-go/rest"; _ "sigs.k8s.io/controller-runtime")`,
			want:   []string{"import k8s.io/client-go/rest", "import sigs.k8s.io/controller-runtime"},
		},
		"ClusterAtTheEdge": {
			reason: "edges do",
			path:   "pkg/audit/a.go",
			source: pkg + `import _ "k8s.io/client-go/rest"`,
		},
		"Exit": {
			reason: "only cmd ends the process, under whatever name os is imported",
			path:   "pkg/status/a.go",
			source: pkg + `import (sys "os"; "k8s.io/klog/v2")` + "\nfunc f() { sys.Exit(1); klog.Fatalf(``) }",
			want:   []string{"a.go:4: sys.Exit outside cmd", "a.go:4: klog.Fatalf outside cmd"},
		},
		"ExitInCmd": {
			reason: "cmd is where the process ends",
			path:   "cmd/fusegate/a.go",
			source: "// Fusegate is a command.\npackage main\n" + `import "os"` + "\nfunc main() { os.Exit(1) }",
		},
		"ExitInTest": {
			reason: "so may TestMain",
			path:   "pkg/status/a_test.go",
			source: pkg + `import "os"` + "\nvar _ = os.Exit",
		},
		"Environment": {
			reason: "the environment is read by cmd",
			path:   "pkg/status/a.go",
			source: pkg + `import "os"` + "\nvar _, _ = os.Getenv(``), os.Environ",
			want:   []string{"os.Getenv outside cmd", "os.Environ outside cmd"},
		},
		"EnvironmentOfControlPlane": {
			reason: "the control plane's binaries are found by the environment; it must not exit all the same",
			path:   "test/controlplane/a.go",
			source: pkg + `import "os"` + "\nvar _, _ = os.Getenv(``), os.Exit",
			want:   []string{"os.Exit outside cmd"},
		},
		"NamesakeOfOS": {
			reason: "a field that is called os is not the package",
			path:   "pkg/status/a.go",
			source: pkg + `import os "strings"` + "\nvar _ = os.Exit",
		},
		"DotImport": {
			reason: "a dot import would hide os.Exit",
			path:   "pkg/status/a.go",
			source: pkg + `import . "os"`,
			want:   []string{"dot import of os"},
		},
		"NoPackageComment": {
			reason: "every package says what it is for",
			path:   "pkg/fuse/a.go",
			source: "// p is a package.\npackage p\n",
			want:   []string{"pkg/fuse: no package comment"},
		},
		"BannedName": {
			reason: "a package is named after what it provides",
			path:   "pkg/output/a.go",
			source: "// Package helpers helps.\npackage helpers\n",
			want:   []string{"no package is named helpers"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := parse(tc.path, []byte(tc.source))
			if err != nil {
				t.Fatalf("parsing the case: %v", err)
			}
			got := check(layers, []source{s})
			if len(got) != len(tc.want) {
				t.Fatalf("%s: got %d findings %q, want %d", tc.reason, len(got), got, len(tc.want))
			}
			for _, part := range tc.want {
				if !strings.Contains(strings.Join(got, "\n"), part) {
					t.Errorf("%s: no finding contains %q: got %q", tc.reason, part, got)
				}
			}
		})
	}
}

// TestTestExtras checks that a row's extras are for its tests alone.
func TestTestExtras(t *testing.T) {
	table := map[string]row{"pkg/policy": {tests: []string{"pkg/engine"}}, "pkg/engine": {}}
	const content = "// Package policy is a package.\npackage policy\nimport _ \"" + module + "/pkg/engine\"\n"
	for name, want := range map[string]int{"pkg/policy/a.go": 1, "pkg/policy/a_test.go": 0} {
		s, err := parse(name, []byte(content))
		if err != nil {
			t.Fatalf("parsing %s: %v", name, err)
		}
		if got := check(table, []source{s}); len(got) != want {
			t.Errorf("%s: got %d findings %q, want %d", name, len(got), got, want)
		}
	}
}

// TestPackageComment checks that a test file's comment does not stand in for
// that of the code.
func TestPackageComment(t *testing.T) {
	code, err := parse("pkg/fuse/a.go", []byte("package fuse\n"))
	if err != nil {
		t.Fatal(err)
	}
	test, err := parse("pkg/fuse/a_test.go", []byte("// Package fuse is tested.\npackage fuse\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := check(layers, []source{code, test}); len(got) != 1 {
		t.Errorf("code without a comment: got findings %q, want one", got)
	}
	if got := check(layers, []source{test}); len(got) != 0 {
		t.Errorf("nothing but tests: got findings %q, want none", got)
	}
}

// TestParseTree checks which files count: all of the module, wherever they are,
// and none of what the go command leaves out.
func TestParseTree(t *testing.T) {
	file := func(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }
	root := fstest.MapFS{
		"go.mod":                   file("module m"),
		"pkg/a/a.go":               file("package a"),
		"pkg/a/a_test.go":          file("package a"),
		"pkg/a/testdata/broken.go": file("not Go"),
		"pkg/a/README.md":          file("not Go"),
		"hack/stray.go":            file("package hack"),
		"hack/tool/go.mod":         file("module tool"),
		"hack/tool/main.go":        file("not Go"),
		".cache/x.go":              file("not Go"),
	}
	sources, err := parseTree(root)
	if err != nil {
		t.Fatalf("parsing the tree: %v", err)
	}
	var got []string
	for _, s := range sources {
		got = append(got, s.path)
	}
	want := []string{"hack/stray.go", "pkg/a/a.go", "pkg/a/a_test.go"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parsed files (-want +got):\n%s", diff)
	}
	root["pkg/b/b.go"] = file("not Go")
	if _, err := parseTree(root); err == nil {
		t.Error("a file that does not parse: got no error")
	}
}
