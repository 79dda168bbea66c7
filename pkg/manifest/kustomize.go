package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/output"
)

// kustomizations are the names of files that kustomize reads.
var kustomizations = konfig.RecognizedKustomizationFileNames()

var errNoKustomization = fmt.Errorf("holds no kustomization (a file named %s)", kustomizations[0])

// kustomize builds a folder and yields what comes of it.
func (r *reader) kustomize(dir string) bool {
	if r.ended() {
		return false
	}
	root, err := kustomizationRoot(dir)
	if err != nil {
		return r.problem(dir, 0, err)
	}
	files := &localFiles{FileSystem: filesys.MakeFsOnDisk(), root: root}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, root)
	if err != nil {
		return r.problem(dir, 0, fmt.Errorf("building the kustomization: %w", errors.Join(files.refused, err)))
	}
	for _, res := range built.Resources() {
		if !r.resource(dir, res, files.annotate) {
			return false
		}
	}
	if built.Size() == 0 {
		return r.problem(dir, 0, errNoObject)
	}
	return true
}

// kustomizationRoot is the absolute path of a folder, which kustomize can take
// for nothing else.
func kustomizationRoot(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", plain(err)
	}
	if !info.IsDir() {
		return "", errors.New("is no folder: give the folder that holds the kustomization")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	root, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", plain(err)
	}
	for _, name := range kustomizations {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			return root, nil
		}
	}
	return "", errNoKustomization
}

// resource yields one of the build's. Its place is the file that it was first
// written in, as far as kustomize knows.
func (r *reader) resource(dir string, res *resource.Resource, hideOrigin bool) bool {
	file, line := dir, 0
	if origin, err := res.GetOrigin(); err == nil && origin != nil && origin.Path != "" {
		file = filepath.Join(dir, origin.Path)
		line = findLine(file, res)
	}
	if hideOrigin {
		if err := res.SetOrigin(nil); err != nil {
			return r.problem(file, line, fmt.Errorf("building the kustomization: %w", err))
		}
	}
	text, err := res.AsYAML()
	if err != nil {
		return r.problem(file, line, fmt.Errorf("building the kustomization: %w", err))
	}
	d := &decoding{reader: r, file: file, named: true}
	v, err := toJSON(d, document{text: text, line: 1})()
	fields, ok := v.(map[string]any)
	if err != nil || !ok {
		return r.problem(file, line, fmt.Errorf("reading what kustomize has built: %w", errors.Join(err, errNotObject)))
	}
	return d.take(found{fields: fields, line: line}, 0)
}

// findLine looks for an object of the same kind in the file that it came from,
// whose name kustomize may have lengthened.
func findLine(file string, res *resource.Resource) int {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	candidates := 0
	line := 0
	for doc, err := range documents(f) {
		var head struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err != nil || yaml.Unmarshal(doc.text, &head) != nil || head.Kind != res.GetKind() {
			continue
		}
		if head.Metadata.Name == res.OrgId().Name {
			return doc.line
		}
		candidates++
		line = doc.line
	}
	if candidates == 1 {
		return line
	}
	return 0
}

// localFiles is the file system as kustomize sees it. It refuses kustomizations
// that name what is not there, which kustomize would look for in the network,
// and has the one at the root say where its resources come from.
type localFiles struct {
	filesys.FileSystem
	root string
	// annotate is set if the origins were asked for by us.
	annotate bool
	refused  error
}

// ReadFile implements filesys.FileSystem.
func (l *localFiles) ReadFile(path string) ([]byte, error) {
	text, err := l.FileSystem.ReadFile(path)
	if err != nil || !slices.Contains(kustomizations, filepath.Base(path)) {
		return text, err
	}
	k := &kustomize.Kustomization{}
	if err := k.Unmarshal(text); err != nil {
		return text, nil // kustomize says what is wrong
	}
	if err := l.checkLocal(filepath.Dir(path), k); err != nil {
		l.refused = errors.Join(l.refused, output.Problem{File: path, Err: err})
		return nil, err
	}
	if filepath.Dir(path) != l.root || slices.Contains(k.BuildMetadata, kustomize.OriginAnnotations) {
		return text, nil
	}
	return l.withOrigins(text)
}

func (l *localFiles) withOrigins(text []byte) ([]byte, error) {
	fields := map[string]any{}
	if err := yaml.Unmarshal(text, &fields); err != nil {
		return text, nil
	}
	metadata, _ := fields["buildMetadata"].([]any)
	fields["buildMetadata"] = append(metadata, kustomize.OriginAnnotations)
	l.annotate = true
	return yaml.Marshal(fields)
}

// checkLocal refuses paths that do not lead to a file or folder of this machine.
func (l *localFiles) checkLocal(dir string, k *kustomize.Kustomization) error {
	for _, path := range paths(k) {
		if strings.Contains(path, "\n") {
			continue // written out in place of a path
		}
		if strings.Contains(path, "://") || !l.Exists(filepath.Join(dir, path)) && !(filepath.IsAbs(path) && l.Exists(path)) {
			return fmt.Errorf("%q is not a file or folder here, and nothing is fetched from the network", path)
		}
		if looksRemote(path) {
			return fmt.Errorf("%q would be taken for an address in the network: write ./%[1]s", path)
		}
	}
	return nil
}

// looksRemote tells whether kustomize would take a path for a repository
// (kustomize's api/internal/git/repospec.go).
func looksRemote(path string) bool {
	lower := strings.ToLower(path)
	return strings.HasPrefix(lower, "github.com") || strings.HasPrefix(lower, "gh:") ||
		strings.HasPrefix(lower, "git::") || strings.HasPrefix(lower, "git@") ||
		strings.Contains(lower, "@") && strings.Contains(lower, ":")
}

// paths are those that a kustomization has kustomize load.
func paths(k *kustomize.Kustomization) []string {
	out := slices.Concat(k.Resources, k.Bases, k.Components, k.Crds, k.Configurations, k.Generators, k.Transformers, k.Validators) //nolint:staticcheck // old kustomizations have bases
	for _, p := range k.PatchesStrategicMerge {                                                                                    //nolint:staticcheck // as old ones have these
		out = append(out, string(p))
	}
	for _, p := range slices.Concat(k.Patches, k.PatchesJson6902) { //nolint:staticcheck // and these
		out = append(out, p.Path)
	}
	for _, p := range k.Replacements {
		out = append(out, p.Path)
	}
	for _, g := range k.ConfigMapGenerator {
		out = append(out, generatorPaths(g.KvPairSources)...)
	}
	for _, g := range k.SecretGenerator {
		out = append(out, generatorPaths(g.KvPairSources)...)
	}
	out = append(out, k.OpenAPI["path"])
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

func generatorPaths(s kustomize.KvPairSources) []string {
	out := slices.Concat(s.EnvSources, []string{s.EnvSource})
	for _, f := range s.FileSources {
		if _, path, keyed := strings.Cut(f, "="); keyed {
			f = path
		}
		out = append(out, f)
	}
	return out
}
