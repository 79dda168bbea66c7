package manifest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/manifest"
)

func TestKustomize(t *testing.T) {
	cases := map[string]struct {
		reason string
		files  map[string]string
		dir    string
		want   []string
	}{
		"Overlay": {
			reason: "What is built is placed in the file that it was written in.",
			files: map[string]string{
				"base/kustomization.yaml": "resources: [all.yaml]\n",
				"base/all.yaml":           pod + "a\n---\n" + cm + "b\n",
				"over/kustomization.yaml": "namePrefix: x-\nnamespace: ns\nresources: [../base]\nconfigMapGenerator:\n- name: g\n  literals: [url=https://example.com]\n",
			},
			dir: "over",
			want: []string{
				"Pod ns/x-a at base/all.yaml:1", "ConfigMap ns/x-b at base/all.yaml:6",
				"ConfigMap ns/x-g-b6m879h4d7 at over",
			},
		},
		"None": {
			reason: "A folder without one is a typing error.",
			files:  map[string]string{"a.yaml": pod + "a"},
			want:   []string{"error: .: holds no kustomization (a file named kustomization.yaml)"},
		},
		"File": {
			reason: "A kustomization is a folder.",
			files:  map[string]string{"a.yaml": pod + "a"},
			dir:    "a.yaml",
			want:   []string{"error: a.yaml: is no folder: give the folder that holds the kustomization"},
		},
		"Broken": {
			reason: "Kustomize says what it does not like.",
			files:  map[string]string{"kustomization.yaml": "resources: [a.yaml]\nprefix: x\n", "a.yaml": pod + "a"},
			want:   []string{"error: .: building the kustomization: invalid Kustomization: json: unknown field \"prefix\""},
		},
		"Plugin": {
			reason: "Nothing is executed.",
			files:  map[string]string{"kustomization.yaml": "generators: [g.yaml]\n", "g.yaml": "apiVersion: example.com/v1\nkind: G\nmetadata:\n  name: g\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: /bin/true}\n"},
			want:   []string{"*external plugins disabled*"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, c.files)
			got := transcript(t, dir, manifest.Options{Kustomize: []string{strings.TrimSuffix(dir+"/"+c.dir, "/")}})
			if pattern, ok := strings.CutPrefix(c.want[0], "*"); ok && len(got) == 1 && strings.Contains(got[0], strings.TrimSuffix(pattern, "*")) {
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
			}
		})
	}
}

// TestKustomizeAnnotations has no annotation of ours in what is built, and the
// ones that were asked for.
func TestKustomizeAnnotations(t *testing.T) {
	for metadata, want := range map[string]int{"": 0, "buildMetadata: [originAnnotations]\n": 1} {
		dir := folder(t, map[string]string{"kustomization.yaml": metadata + "resources: [a.yaml]\n", "a.yaml": pod + "a"})
		for o, err := range manifest.Read(t.Context(), manifest.Options{Kustomize: []string{dir}}) {
			if err != nil {
				t.Fatal(err)
			}
			if got := len(o.GetAnnotations()); got != want || !strings.HasSuffix(o.Place(), "a.yaml:1") {
				t.Errorf("%q: annotations %v at %s, want %d", metadata, o.GetAnnotations(), o.Place(), want)
			}
		}
	}
}

// TestKustomizeNetwork refuses what kustomize would fetch, before it tries.
func TestKustomizeNetwork(t *testing.T) {
	files := map[string]string{"a.yaml": pod + "a", "github.com/a/b/kustomization.yaml": "resources: [../../../a.yaml]\n"}
	for _, line := range []string{
		"resources: [https://127.0.0.1:1/a.yaml]",
		"resources: ['github.com/example/repo/path?ref=v1']",
		"resources: [github.com/a/b]",
		"resources: ['git@github.com:example/repo']",
		"resources: [gone.yaml]",
		"bases: ['https://127.0.0.1:1/a//b']",
		"components: ['https://127.0.0.1:1/a//b']",
		"crds: ['http://127.0.0.1:1/a']",
		"patches: [{path: 'http://127.0.0.1:1/a'}]",
		"patchesStrategicMerge: ['http://127.0.0.1:1/a']",
		"patchesJson6902: [{path: 'http://127.0.0.1:1/a', target: {version: v1, kind: Pod, name: a}}]",
		"replacements: [{path: 'http://127.0.0.1:1/a'}]",
		"openapi: {path: 'http://127.0.0.1:1/a'}",
		"configMapGenerator: [{name: a, files: ['k=http://127.0.0.1:1/a']}]",
		"secretGenerator: [{name: a, envs: ['http://127.0.0.1:1/a']}]",
		"transformers: ['http://127.0.0.1:1/a']",
	} {
		files["kustomization.yaml"] = line + "\n"
		got := transcript(t, "?", manifest.Options{Kustomize: []string{folder(t, files)}})
		if len(got) != 1 || !strings.Contains(got[0], "network") {
			t.Errorf("%s: got %q, want an error about the network", line, got)
		}
	}
}
