package templates_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/suite"
	"github.com/fusegate/fusegate/templates"
)

const (
	title    = "metadata.gatekeeper.sh/title"
	version  = "metadata.gatekeeper.sh/version"
	syncData = "metadata.gatekeeper.sh/requires-sync-data"
)

var (
	folderName  = regexp.MustCompile(`^[a-z]+$`)
	sampleName  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*\.yaml$`)
	packageLine = regexp.MustCompile(`(?m)^package (\S+)$`)
	semver      = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
)

// minCases is how many cases a suite has at least.
const minCases = 6

// TestTemplates checks what somebody who installs a template is told about it.
func TestTemplates(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			u := object(t, path.Join(folder, "template.yaml"))
			if got, want := u.GetAPIVersion(), "templates.gatekeeper.sh/v1"; got != want {
				t.Errorf("apiVersion: got %s, want %s", got, want)
			}
			if !folderName.MatchString(folder) || u.GetName() != folder {
				t.Errorf("metadata.name: got %s, want the folder's name, lower-case letters only", u.GetName())
			}
			checkAnnotations(t, u.GetAnnotations())
			parsed, err := engine.ParseTemplate(u)
			if err != nil {
				t.Fatal(err)
			}
			checkSchema(t, parsed)
			checkSync(t, parsed)
		})
	}
}

func checkAnnotations(t *testing.T, annotations map[string]string) {
	t.Helper()
	for _, key := range []string{title, version, "description"} {
		if annotations[key] == "" {
			t.Errorf("metadata.annotations: %s is missing", key)
		}
	}
	if v := annotations[version]; !semver.MatchString(v) {
		t.Errorf("metadata.annotations[%s]: %q is not of the form 1.2.3", version, v)
	}
	if d := annotations["description"]; !strings.HasSuffix(d, ".") {
		t.Errorf("metadata.annotations[description]: %q is no sentence", d)
	}
}

// checkSchema wants every parameter described.
func checkSchema(t *testing.T, parsed *engine.Template) {
	t.Helper()
	validation := parsed.Spec.CRD.Spec.Validation
	if validation == nil || validation.OpenAPIV3Schema == nil {
		return
	}
	for _, finding := range undescribed("parameters", *validation.OpenAPIV3Schema) {
		t.Error(finding)
	}
}

// undescribed lists the properties below a schema without description or type.
func undescribed(at string, s apiextensions.JSONSchemaProps) []string {
	var out []string
	for name, p := range s.Properties {
		here := at + "." + name
		if p.Description == "" {
			out = append(out, here+": no description")
		}
		if p.Type == "" && !p.XIntOrString && p.XPreserveUnknownFields == nil {
			out = append(out, here+": no type")
		}
		out = append(out, undescribed(here, p)...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		out = append(out, undescribed(at+"[]", *s.Items.Schema)...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		out = append(out, undescribed(at+"{}", *s.AdditionalProperties.Schema)...)
	}
	return out
}

// checkSync wants the annotation that makes the objects arrive which the policy
// reads from data.inventory, and only then.
func checkSync(t *testing.T, parsed *engine.Template) {
	t.Helper()
	reads := strings.Contains(fmt.Sprint(sources(parsed)), "data.inventory")
	if _, declares := parsed.Annotations[syncData]; reads != declares {
		t.Errorf("the Rego reads data.inventory: %v, the annotation %s is there: %v", reads, syncData, declares)
	}
}

// source is the Rego of a template.
type source struct {
	rego string
	libs []string
}

func sources(parsed *engine.Template) []source {
	target := parsed.Spec.Targets[0]
	out := []source{{rego: target.Rego, libs: target.Libs}}
	for _, code := range target.Code {
		fields, _ := code.Source.Value.(map[string]any)
		s := source{}
		s.rego, _ = fields["rego"].(string)
		libs, _ := fields["libs"].([]any)
		for _, lib := range libs {
			text, _ := lib.(string)
			s.libs = append(s.libs, text)
		}
		out = append(out, s)
	}
	return slices.DeleteFunc(out, func(s source) bool { return s.rego == "" })
}

// TestLibraries keeps the copies of a library the same in all templates that
// bring it: whoever mends one mends all. A library is the same text in Rego v0
// and v1; where it cannot be, the version is part of its package's name.
func TestLibraries(t *testing.T) {
	type copied struct{ folder, text string }
	first := map[string]copied{}
	for _, folder := range folders(t) {
		parsed, err := engine.ParseTemplate(object(t, path.Join(folder, "template.yaml")))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sources(parsed) {
			for _, text := range s.libs {
				name := packageOf(t, folder, text)
				if _, seen := first[name]; !seen {
					first[name] = copied{folder, text}
				}
				if got := first[name]; strings.TrimSpace(got.text) != strings.TrimSpace(text) {
					t.Errorf("package %s differs between %s and %s: make them the same, or rename one", name, got.folder, folder)
				}
			}
		}
	}
}

// packageOf returns the package that a library's text declares.
func packageOf(t *testing.T, folder, text string) string {
	t.Helper()
	found := packageLine.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("%s: a library has no package line", folder)
	}
	return found[1]
}

// TestSuiteFiles checks that the suites are worth their name and that no
// sample lies about unused.
func TestSuiteFiles(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			s := readSuite(t, folder)
			if s.Name != folder {
				t.Errorf("metadata.name: got %q, want the folder's name, %q", s.Name, folder)
			}
			checkNames(t, s)
			used := map[string]bool{}
			for _, file := range s.Files() {
				used[file] = true
			}
			for _, name := range []string{"constraint", "allowed", "disallowed"} {
				if !used["samples/"+name+".yaml"] {
					t.Errorf("no case uses samples/%s.yaml", name)
				}
			}
			for _, name := range sampleFiles(t, folder) {
				if !sampleName.MatchString(path.Base(name)) {
					t.Errorf("%s: want a name such as no-limits.yaml", name)
				}
				if !used[strings.TrimPrefix(name, folder+"/")] {
					t.Errorf("%s: no case uses it", name)
				}
			}
		})
	}
}

// checkNames wants names that tell cases apart, enough cases, and a message
// wherever a violation is expected.
func checkNames(t *testing.T, s *suite.Suite) {
	t.Helper()
	seen, cases := map[string]bool{}, 0
	for _, test := range s.Tests {
		for _, c := range test.Cases {
			cases++
			name := test.Name + "/" + c.Name
			if seen[name] || test.Name == "" || c.Name == "" {
				t.Errorf("case %q: want a name of its own", name)
			}
			seen[name] = true
			checkAssertions(t, name, c.Assertions)
		}
	}
	if cases < minCases {
		t.Errorf("%d cases, want at least %d", cases, minCases)
	}
}

func checkAssertions(t *testing.T, name string, assertions []suite.Assertion) {
	t.Helper()
	if len(assertions) == 0 {
		t.Errorf("case %q asserts nothing", name)
		return
	}
	allowed := slices.ContainsFunc(assertions, func(a suite.Assertion) bool {
		return a.Message == nil && a.AtLeast == 0
	})
	worded := slices.ContainsFunc(assertions, func(a suite.Assertion) bool { return a.Message != nil })
	if !allowed && !worded {
		t.Errorf("case %q expects a violation: assert its message", name)
	}
}

func sampleFiles(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := templates.FS.ReadDir(path.Join(folder, "samples"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, path.Join(folder, "samples", e.Name()))
	}
	return out
}
