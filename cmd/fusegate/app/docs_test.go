package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pages reads the files of a folder by name.
func pages(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

// TestCommandPages wants the pages about the commands to be those that the
// commands give, on every machine.
func TestCommandPages(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	dir := t.TempDir()
	if err := writeDocs(newRoot(), dir, "markdown"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pages(t, "../../../docs/cli"), pages(t, dir)); diff != "" {
		t.Errorf("run make docs-cli (-docs/cli +commands):\n%s", diff)
	}
	if err := writeDocs(newRoot(), dir, "man"); err != nil {
		t.Fatal(err)
	}
	if page := pages(t, dir)["fusegate-test.1"]; !strings.Contains(page, ".TH \"FUSEGATE-TEST\" \"1\"") || !strings.Contains(page, "Exit codes") {
		t.Errorf("no manual page:\n%.300s", page)
	}
}

// TestCompletion asks the binary what shells ask.
func TestCompletion(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"Formats":  {[]string{"test", "--output", ""}, "sarif"},
		"Files":    {[]string{"test", "-f", ""}, ":8"},
		"Contexts": {[]string{"audit", "--kubeconfig", kubeconfigFile(t), "--context", ""}, "production"},
	} {
		stdout, stderr, code := fusegate(t, "", append([]string{"__complete"}, c.args...)...)
		if code != 0 || !strings.Contains(stdout, c.want) {
			t.Errorf("%s: got %d\n%s%s\nwant %q", name, code, stdout, stderr, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, _, code := fusegate(t, "", "completion", shell); code != 0 || !strings.Contains(stdout, "fusegate") {
			t.Errorf("completion for %s: got %d", shell, code)
		}
	}
}

func kubeconfigFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\ncontexts: [{name: production, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
