package manifest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
)

const (
	pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: "
	cm  = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: "
)

// folder writes files, links ("-> target") and folders (a name with a slash at
// the end) below a folder and returns it.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// transcript is what reading gave, a line each: objects, errors and notes, with
// their places relative to dir.
func transcript(t *testing.T, dir string, o manifest.Options) []string {
	t.Helper()
	var out []string
	o.Note = func(p output.Problem) { out = append(out, "note: "+p.Error()) }
	for object, err := range manifest.Read(t.Context(), o) {
		if err != nil {
			out = append(out, "error: "+err.Error())
			continue
		}
		out = append(out, manifest.Name(object.Unstructured)+" at "+object.Place())
	}
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], dir+"/", "")
		out[i] = strings.ReplaceAll(out[i], dir, ".")
	}
	return out
}

func TestRead(t *testing.T) {
	cases := map[string]struct {
		reason string
		files  map[string]string
		// paths are read; the folder itself if there are none.
		paths []string
		stdin string
		want  []string
	}{
		"Folder": {
			reason: "Files are read in lexical order, folders with all below them, hidden ones and other kinds of file not at all.",
			files:  map[string]string{"b.yml": pod + "b\n", "a/z.yaml": pod + "z", "a/c.json": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}`, ".git/x.yaml": pod + "x", "README.md": "# read me"},
			want:   []string{"Pod c at a/c.json:1", "Pod z at a/z.yaml:1", "Pod b at b.yml:1"},
		},
		"Documents": {
			reason: "An object's line is that of its first field, whatever separators, comments, directives and empty documents come before.",
			files:  map[string]string{"a.yaml": "# first\n---\n\n# about a\n" + pod + "a\n---\n---\n# nothing\n--- # b\r\n" + pod + "b\r\n...\n%YAML 1.1\n---\n" + pod + "c\n---\n"},
			want:   []string{"Pod a at a.yaml:5", "Pod b at a.yaml:13", "Pod c at a.yaml:20"},
		},
		"SameLine": {
			reason: "A document may start on the line of its separator.",
			files:  map[string]string{"a.yaml": "---\n--- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"},
			want:   []string{"Pod a at a.yaml:2"},
		},
		"ByteOrderMark": {
			reason: "Editors of Windows put one at the start.",
			files:  map[string]string{"a.yaml": "\xEF\xBB\xBF" + pod + "a\n"},
			want:   []string{"Pod a at a.yaml:1"},
		},
		"UTF16": {
			reason: "What cannot be split is named for what it is.",
			files:  map[string]string{"a.yaml": "\xFF\xFEa\x00"},
			want:   []string{"error: a.yaml: is written in UTF-16: save it as UTF-8"},
		},
		"JSONValues": {
			reason: "JSON values may follow each other without separators, as jq writes them.",
			files:  map[string]string{"a.json": "{\"apiVersion\":\"v1\",\n\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}\n\n{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\n\"metadata\":{\"name\":\"b\"}}"},
			want:   []string{"Pod a at a.json:1", "Pod b at a.json:4"},
		},
		"BrokenJSON": {
			reason: "What comes before the broken value is taken.",
			files:  map[string]string{"a.json": "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}\n{\"apiVersion\":"},
			want:   []string{"Pod a at a.json:1", "error: a.json:1: reading JSON: unexpected EOF"},
		},
		"Truncated": {
			reason: "A file cut off in the middle of a value is an error at its place.",
			files:  map[string]string{"a.yaml": pod + "a\nspec:\n  containers: [{name: x, ima"},
			want:   []string{"error: a.yaml:6: reading YAML: did not find expected ',' or '}'"},
		},
		"OneBroken": {
			reason: "One broken document costs itself only, and its line counts from the top of the file.",
			files:  map[string]string{"a.yaml": pod + "a\n---\n" + pod + "b\n  labels: \"x\n---\n" + pod + "c\n"},
			want:   []string{"Pod a at a.yaml:1", "error: a.yaml:11: reading YAML: found unexpected end of stream", "Pod c at a.yaml:12"},
		},
		"Tab": {
			reason: "The line is that of the tab.",
			files:  map[string]string{"a.yaml": pod + "a\nspec:\n\tx: 1\n"},
			want:   []string{"error: a.yaml:6: reading YAML: found character that cannot start any token"},
		},
		"Helm": {
			reason: "A template of Helm is not YAML, and there is a way out.",
			files:  map[string]string{"a.yaml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Values.name }}\n"},
			want:   []string{"error: a.yaml:4: reading YAML: invalid map key: map[interface {}]interface {}{\".Values.name\":interface {}(nil)}; this looks like a Helm template: render it with `helm template` first"},
		},
		"ForeignInFolder": {
			reason: "What is no object is left out of a folder, and said.",
			files:  map[string]string{"values.yaml": "\n\nreplicas: 3\n", "list.yaml": "- a\n- b\n", "empty.yaml": "# nothing\n", "pod.yaml": pod + "a"},
			want: []string{
				"note: empty.yaml: left out: holds no Kubernetes object",
				"note: list.yaml:1: left out: is no Kubernetes object: it has no apiVersion and no kind",
				"Pod a at pod.yaml:1",
				"note: values.yaml:3: left out: is no Kubernetes object: it has no apiVersion and no kind",
			},
		},
		"ForeignByName": {
			reason: "Who names a file wants what is in it.",
			files:  map[string]string{"values.yaml": "\n\nreplicas: 3\n", "empty.yaml": "# nothing\n---\n"},
			paths:  []string{"values.yaml", "empty.yaml"},
			want: []string{
				"error: values.yaml:3: is no Kubernetes object: it has no apiVersion and no kind",
				"error: empty.yaml: holds no Kubernetes object",
			},
		},
		"NoFiles": {
			reason: "A folder without a file for us is a typing error.",
			files:  map[string]string{"README.md": "# read me"},
			want:   []string{"error: .: holds no file that ends in .yaml, .yml or .json"},
		},
		"Missing": {
			reason: "A file that is not there does not hide the next.",
			files:  map[string]string{"a.yaml": pod + "a"},
			paths:  []string{"b.yaml", "a.yaml"},
			want:   []string{"error: b.yaml: no such file or directory", "Pod a at a.yaml:1"},
		},
		"HalfAnObject": {
			reason: "An object that lacks one of the two is broken, not foreign.",
			files:  map[string]string{"a.yaml": "kind: Pod\n---\napiVersion: v1\n---\napiVersion: 1\nkind: Pod\n---\n" + pod + "7\n---\napiVersion: v1\nkind: Pod\nmetadata: x\n"},
			want: []string{
				"error: a.yaml:1: apiVersion: is missing on this Pod: add it",
				"error: a.yaml:3: kind: is missing: add it",
				"error: a.yaml:5: apiVersion: must be a string, is 1",
				"error: a.yaml:8: metadata.name: must be a string, is 7: put it in quotes",
				"error: a.yaml:13: metadata: must be an object",
			},
		},
		"Twice": {
			reason: "The same name twice is said, with both places; a name in another namespace, or none at all, is not the same.",
			files: map[string]string{
				"a.yaml": pod + "a\n---\n" + pod + "a\n  namespace: x\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  generateName: a-\n",
				"b.yaml": "---\n" + pod + "a\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  generateName: a-\n",
			},
			want: []string{
				"Pod a at a.yaml:1", "Pod x/a at a.yaml:6", "Pod a- at a.yaml:12",
				"note: b.yaml:2: Pod a is given twice: it is also at a.yaml:1", "Pod a at b.yaml:2", "Pod a- at b.yaml:7",
			},
		},
		"FieldTwice": {
			reason: "A field given twice is taken as kubectl would send it, and said.",
			files:  map[string]string{"a.yaml": "---\n" + pod + "a\nspec:\n  x: 1\n  x: 2\n"},
			want:   []string{"note: a.yaml:8: the last one counts: reading YAML: key \"x\" already set in map", "Pod a at a.yaml:2"},
		},
		"Unreadable": {
			reason: "A link that leads nowhere, or to itself, is an error if it is for us.",
			files:  map[string]string{"a.yaml": "-> missing.yaml", "b.yaml": "-> b.yaml", "c.txt": "-> nowhere", "d.yaml": pod + "d"},
			want:   []string{"error: a.yaml: no such file or directory", "error: b.yaml: too many levels of symbolic links", "Pod d at d.yaml:1"},
		},
		"Cycle": {
			reason: "Links are followed; one that leads back up is not followed for ever, and one to a folder already read is not read twice.",
			files:  map[string]string{"a/b/up": "-> ../../a", "a/b/x.yaml": pod + "x", "c": "-> a/b", "d.yaml": "-> a/b/x.yaml"},
			want: []string{
				"note: a/b/up: not read again: this symbolic link leads back to a, which it is in",
				"Pod x at a/b/x.yaml:1",
				"note: c: not read again: it is the folder a/b, which is read already",
				"note: d.yaml:1: Pod x is given twice: it is also at a/b/x.yaml:1",
				"Pod x at d.yaml:1",
			},
		},
		"KustomizationInFolder": {
			reason: "It is for kustomize.",
			files:  map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": pod + "a"},
			want:   []string{"Pod a at a.yaml:1", "note: kustomization.yaml: left out: build this folder with -k to have its objects"},
		},
		"Stdin": {
			reason: "Standard input is one of the paths.",
			files:  map[string]string{"a.yaml": pod + "a"},
			paths:  []string{"-", "a.yaml"},
			stdin:  pod + "b\n---\nx: [\n",
			want:   []string{"Pod b at stdin:1", "error: stdin:6: reading YAML: did not find expected node content", "Pod a at a.yaml:1"},
		},
		"EmptyStdin": {
			reason: "A pipe that broke must not look clean.",
			paths:  []string{"-"},
			want:   []string{"error: stdin: holds no Kubernetes object"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, c.files)
			o := manifest.Options{Stdin: strings.NewReader(c.stdin), Paths: []string{dir}}
			if c.paths != nil {
				o.Paths = nil
			}
			for _, p := range c.paths {
				if p != manifest.Stdin {
					p = filepath.Join(dir, p)
				}
				o.Paths = append(o.Paths, p)
			}
			if diff := cmp.Diff(c.want, transcript(t, dir, o)); diff != "" {
				t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
			}
		})
	}
}

// TestDenied reads what may not be read. Root may read everything but what the
// kernel refuses to all.
func TestDenied(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": "-> /proc/self/mem", "b.yaml": pod + "b"})
	got := transcript(t, dir, manifest.Options{Paths: []string{dir}})
	want := []string{"error: a.yaml:1: input/output error", "Pod b at b.yaml:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestEnd reads no further once the context has ended, or the caller.
func TestEnd(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": pod + "a\n---\n" + pod + "b\n", "b.yaml": pod + "c"})
	n := 0
	for _, err := range manifest.Read(t.Context(), manifest.Options{Paths: []string{dir}}) {
		if n++; err != nil {
			t.Error(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range manifest.Read(ctx, manifest.Options{Paths: []string{dir}}) {
		n, last = n+1, err
		cancel()
	}
	if n != 3 || !errors.Is(last, context.Canceled) {
		t.Errorf("read %d, want 3; the last is %v, want the context's end", n, last)
	}
}
